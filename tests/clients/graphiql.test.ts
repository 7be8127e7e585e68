// The page of a development server at `/`, in a real browser, without requests to any other host.

import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { launch } from './browser.ts'
import { eventually } from './helpers.ts'

const address = process.env.PARLOR_TEST_GRAPHIQL_URL

suite('GraphiQL', { skip: address ? false : 'PARLOR_TEST_GRAPHIQL_URL is not set' }, () => {
  const errors: string[] = []
  let browser: Browser
  let page: Page

  before(async () => {
    browser = await launch()
    page = await browser.newPage()
    page.on('request', (request) => {
      const url = new URL(request.url())
      const local = url.host === new URL(address!).host || url.protocol === 'data:' || url.protocol === 'blob:'
      if (!local) errors.push(`request to ${url}`)
    })
    page.on('pageerror', (error) => errors.push(String(error)))
    // The browser logs violations of the content security policy.
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text())
    })
    await page.goto(address!)
    await page.locator('.graphiql-execute-button').waitFor()
  })

  after(() => browser?.close())

  const openTab = (name: string) => page.locator('.graphiql-tab', { hasText: name }).click()
  const run = () => page.locator('.graphiql-execute-button').click()

  /** Reads a part of the page. Monaco renders spaces as no-break spaces. */
  const read = async (part: string) => (await page.locator(part).innerText()).replaceAll('\u00a0', ' ')

  const waitForText = (part: string, pattern: RegExp) =>
    eventually(async () => assert.match(await read(part), pattern), 15_000)

  async function setVariables(value: unknown) {
    await page.getByRole('button', { name: 'Variables' }).click()
    await page.locator('.graphiql-editor-tool .graphiql-editor:not(.hidden)').click()
    await page.keyboard.press('Control+A')
    await page.keyboard.press('Delete')
    await page.keyboard.insertText(JSON.stringify(value))
  }

  /** Sends an operation to the server without the page, with the page's token. */
  async function ask(query: string): Promise<any> {
    const { token } = JSON.parse((await page.locator('#parlor').textContent())!)
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
    const request = { method: 'POST', headers, body: JSON.stringify({ query }) }
    const response = await fetch(new URL('/graphql', address), request)
    const body = await response.json()
    assert.equal(body.errors, undefined, JSON.stringify(body.errors))
    return body.data
  }

  test('the headers contain the token', () => waitForText('.graphiql-editor-tool', /"Authorization": "Bearer \S+/))

  test('the first query returns the viewer', async () => {
    const { viewer } = await ask('{ viewer { user { name } } }')
    await openTab('FirstQuery')
    await run()
    await waitForText('.result-window', new RegExp(`"viewer": [^]*"name": "${viewer.user.name}"`))
  })

  test('the first feed receives new messages', async () => {
    const group = '{ kind: GROUP, title: "GraphiQL", memberIds: [] }'
    const chatId = (await ask(`mutation { createChat(input: ${group}) { chat { id } } }`)).createChat.chat.id
    const send = (text: string) =>
      ask(`mutation { sendMessage(input: { chatId: "${chatId}", text: "${text}" }) { message { id } } }`)

    await send('before the feed')
    await openTab('FirstFeed')
    await setVariables({ chatId })
    await run()
    await waitForText('.result-window', /FeedCaughtUp/)
    await send('while it runs')
    await waitForText('.result-window', /while it runs/)
  })

  test('the page made no other requests and logged no errors', () => assert.deepEqual(errors, []))
})

/** The modules of the CDN, reduced to those parts that the page uses: tests have no network. */
const cdnModules: Record<string, string> = {
  react: 'export const createElement = (type, props, ...children) => ({ type, props, children })',
  'react-dom': 'export const createRoot = (container) => ({ render: (element) => { window.rendered = { container, element } } })',
  graphiql: 'export const GraphiQL = () => null\nGraphiQL.Logo = () => null',
  '@graphiql/toolkit': 'export const createGraphiQLFetcher = (options) => async () => ({ options })',
  'graphql-ws': 'export const createClient = (options) => ({ options })',
}

suite('GraphiQL from a CDN', { skip: address ? false : 'PARLOR_TEST_GRAPHIQL_URL is not set' }, () => {
  const errors: string[] = []
  const requested = new Set<string>()
  let browser: Browser
  let page: Page

  before(async () => {
    browser = await launch()
    page = await browser.newPage()
    page.on('pageerror', (error) => errors.push(String(error)))
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text())
    })
    await page.route('https://esm.sh/**', (route) => {
      const { pathname } = new URL(route.request().url())
      requested.add(pathname)
      const name = pathname.match(/^\/((?:@[^/]+\/)?[^/@]+)@/)?.[1]
      const isScript = route.request().resourceType() === 'script'
      const body = isScript && name && !pathname.includes('/setup-workers/') ? cdnModules[name] : ''
      const contentType = isScript ? 'text/javascript' : 'text/css'
      return route.fulfill({ body: body ?? '', contentType, headers: { 'access-control-allow-origin': '*' } })
    })
    await page.goto(new URL('/graphiql/cdn', address).href)
    await page.waitForFunction('window.rendered')
  })

  after(() => browser?.close())

  test('the scripts run and render the editor with the tabs of the built page', async () => {
    const { tabs, headers, children, container } = await page.evaluate(() => {
      const { element, container } = (window as any).rendered
      const { defaultTabs, defaultHeaders } = element.props
      return { tabs: defaultTabs, headers: defaultHeaders, children: element.children[0].children, container: container.id }
    })
    const names = tabs.map(({ query }: { query: string }) => query.match(/^(?:query|mutation|subscription) (\w+)/m)?.[1])
    assert.deepEqual(names, ['FirstQuery', 'OpenChat', 'FirstSend', 'FirstFeed'])
    assert.match(headers, /"Authorization": "Bearer eyJ/)
    assert.deepEqual([children, container], [['Parlor'], 'graphiql'])
  })

  test('the fetcher sends the headers of the editor on the socket', async () => {
    const { url, wsClient } = await page.evaluate(async () => {
      const { fetcher } = (window as any).rendered.element.props
      return (await fetcher({}, { headers: { Authorization: 'Bearer a.b.c' } })).options
    })
    assert.equal(url, '/graphql')
    assert.equal(wsClient.options.url, new URL('/graphql', address).href.replace(/^http/, 'ws'))
    assert.deepEqual(wsClient.options.connectionParams, { Authorization: 'Bearer a.b.c' })
  })

  test('the page loads versions from the CDN only, and logged no errors', () => {
    assert.ok(requested.size >= 7, [...requested].join(', '))
    for (const path of requested) assert.match(path, /@\d+\.\d+\.\d+(\/|$)/)
    assert.deepEqual(errors, [])
  })
})
