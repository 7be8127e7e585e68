// The page that a development server shows at `/`, in a real browser that may speak to nobody else.

import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { launch } from './browser.ts'
import { eventually } from './helpers.ts'

const address = process.env.PARLOR_TEST_GRAPHIQL_URL

suite('GraphiQL', { skip: address ? false : 'PARLOR_TEST_GRAPHIQL_URL is not set' }, () => {
  const complaints: string[] = []
  let browser: Browser
  let page: Page

  before(async () => {
    browser = await launch()
    page = await browser.newPage()
    page.on('request', (request) => {
      const url = new URL(request.url())
      const local = url.host === new URL(address!).host || url.protocol === 'data:' || url.protocol === 'blob:'
      if (!local) complaints.push(`asked for ${url}`)
    })
    page.on('pageerror', (error) => complaints.push(String(error)))
    // A breach of the content security policy is told here.
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text())
    })
    await page.goto(address!)
    await page.locator('.graphiql-execute-button').waitFor()
  })

  after(() => browser?.close())

  const openTab = (name: string) => page.locator('.graphiql-tab', { hasText: name }).click()
  const run = () => page.locator('.graphiql-execute-button').click()

  /** Monaco shows every blank as a no-break space. */
  const read = async (part: string) => (await page.locator(part).innerText()).replaceAll('\u00a0', ' ')

  const shows = (part: string, pattern: RegExp) =>
    eventually(async () => assert.match(await read(part), pattern), 15_000)

  async function setVariables(value: unknown) {
    await page.getByRole('button', { name: 'Variables' }).click()
    await page.locator('.graphiql-editor-tool .graphiql-editor:not(.hidden)').click()
    await page.keyboard.press('Control+A')
    await page.keyboard.press('Delete')
    await page.keyboard.insertText(JSON.stringify(value))
  }

  /** Speaks to the server beside the page, as the person whose token the page was given. */
  async function ask(query: string): Promise<any> {
    const { token } = JSON.parse((await page.locator('#parlor').textContent())!)
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
    const body = JSON.stringify({ query })
    const response = await fetch(new URL('/graphql', address), { method: 'POST', headers, body })
    const { data, errors } = await response.json()
    assert.equal(errors, undefined, JSON.stringify(errors))
    return data
  }

  test('the token is filled in', () => shows('.graphiql-editor-tool', /"Authorization": "Bearer \S+/))

  test('the first query shows the viewer', async () => {
    const { viewer } = await ask('{ viewer { user { name } } }')
    await openTab('FirstQuery')
    await run()
    await shows('.result-window', new RegExp(`"viewer": [^]*"name": "${viewer.user.name}"`))
  })

  test('the first feed shows what happens', async () => {
    const group = '{ kind: GROUP, title: "GraphiQL", memberIds: [] }'
    const chatId = (await ask(`mutation { createChat(input: ${group}) { chat { id } } }`)).createChat.chat.id
    const say = (text: string) =>
      ask(`mutation { sendMessage(input: { chatId: "${chatId}", text: "${text}" }) { message { id } } }`)

    await say('before the feed')
    await openTab('FirstFeed')
    await setVariables({ chatId })
    await run()
    await shows('.result-window', /FeedCaughtUp/)
    await say('while it runs')
    await shows('.result-window', /while it runs/)
  })

  test('no one else was spoken to, and nothing was refused', () => assert.deepEqual(complaints, []))
})
