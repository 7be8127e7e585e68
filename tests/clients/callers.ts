// The page of examples/call in real Chromium pages, with a camera and a microphone of the browser's own making,
// and a line between each page and the server that can be cut.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { Browser, Page } from 'playwright-core'
import { launch } from './browser.ts'
import { eventually, type Person, until } from './helpers.ts'

const flags = [
  // A few pictures a second are enough to see that they flow.
  '--use-fake-device-for-media-stream=fps=5',
  '--use-fake-ui-for-media-stream',
  // Media between two pages of one machine, which need not have a network.
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
]

/** Lets the test see each connection that the page makes. In plain text, as it isn't for Node. */
const watch = `{
  window.connections = []
  const Original = RTCPeerConnection
  window.RTCPeerConnection = function (configuration) {
    const connection = new Original(configuration)
    connections.push(connection)
    return connection
  }
}`

declare const connections: RTCPeerConnection[]

/** Where a caller finds Parlor, and whether all its media goes through a relay. */
export type Options = { server: string; relay?: boolean }
export type Kind = 'audio' | 'video'
export type Stage = Awaited<ReturnType<typeof stage>>

/** A browser, and the example's own server for its page. */
export async function stage() {
  process.env.PORT = '0'
  const { server } = (await import(new URL('../../examples/call/serve.js', import.meta.url).href)) as { server: Server }
  if (!server.listening) await once(server, 'listening')
  const browser = await launch(...flags)
  const callers: Caller[] = []

  return {
    /** A person's device before a chat; each call of it is another device. */
    async caller(who: Person, chatId: string, options: Options) {
      const caller = await Caller.open(browser, addressOf(server), who, chatId, options)
      callers.push(caller)
      return caller
    },
    async close() {
      await browser.close()
      callers.forEach((caller) => caller.line.close())
      server.close()
    },
  }
}

export class Caller {
  readonly who: Person
  readonly page: Page
  readonly line: Line
  /** What went wrong in the page without being told on it. */
  readonly complaints: string[] = []

  private constructor(who: Person, page: Page, line: Line) {
    this.who = who
    this.page = page
    this.line = line
    page.on('pageerror', (error) => this.complaints.push(String(error)))
  }

  static async open(browser: Browser, address: string, who: Person, chatId: string, options: Options) {
    const line = await Line.to(options.server)
    const context = await browser.newContext()
    await context.addInitScript(watch)
    const page = await context.newPage()
    const search = new URLSearchParams({ server: line.address, ...(options.relay && { relay: '' }) })
    const hash = new URLSearchParams({ token: who.token, chat: chatId })
    await page.goto(`${address}?${search}#${hash}`)
    const caller = new Caller(who, page, line)
    await caller.reads('status', `You are ${who.name}.`)
    return caller
  }

  press(name: string) {
    return this.page.getByRole('button', { name, exact: true }).click({ timeout: 10_000 })
  }

  /** Waits until a part of the page says something. */
  reads(part: string, what: string | RegExp, milliseconds = 15_000) {
    return eventually(async () => {
      const text = await this.page.locator(`#${part}`).innerText()
      const found = typeof what === 'string' ? text.includes(what) : what.test(text)
      assert.ok(found, `${this.who.name} reads “${text}”, not ${what}`)
    }, milliseconds)
  }

  /** Waits until these are the videos of others that are shown. */
  shows(...names: string[]) {
    return eventually(async () => {
      const videos = this.page.locator('#videos video')
      const shown = await videos.evaluateAll((elements) => elements.map(({ ariaLabel }) => ariaLabel!))
      assert.deepEqual(shown.filter((name) => !name.startsWith('You')).sort(), names.sort())
    }, 15_000)
  }

  stopsRinging() {
    return this.page.getByRole('alert').waitFor({ state: 'hidden', timeout: 10_000 })
  }

  /** How many connections are open, and a counter of what arrives by them, for each track. */
  async received(kind: Kind, counter = 'bytesReceived') {
    const { open, tracks } = await this.page.evaluate(
      async ([kind, counter]) => {
        const open = connections.filter(({ connectionState }) => connectionState !== 'closed')
        const reports = await Promise.all(open.map((connection) => connection.getStats()))
        const entries = reports.flatMap((report) => [...report.values()])
        const inbound = entries.filter((entry) => entry.type === 'inbound-rtp' && entry.kind === kind)
        const tracks = inbound.map((entry) => [entry.trackIdentifier, entry[counter]] as [string, number])
        return { open: open.length, tracks }
      },
      [kind, counter] as const,
    )
    return { open, tracks: new Map(tracks) }
  }

  /** Waits until sound and pictures arrive, and go on arriving, of so many others and of so many screens. */
  async receives(others = 1, screens = 0) {
    for (const kind of ['audio', 'video'] as const) {
      const before = (await this.received(kind)).tracks
      await eventually(async () => {
        const { open, tracks } = await this.received(kind)
        assert.equal(open, others, `open connections of ${this.who.name}`)
        const flowing = [...tracks].filter(([track, bytes]) => bytes > (before.get(track) ?? 0))
        const wanted = kind === 'audio' ? others : others + screens
        assert.ok(flowing.length >= wanted, `${this.who.name} receives ${kind} of ${flowing.length}, not of ${wanted}`)
      }, 20_000)
    }
  }

  /** The kinds of the candidates of the pair that each open connection has chosen. */
  routes() {
    return this.page.evaluate(async () => {
      const open = connections.filter(({ connectionState }) => connectionState === 'connected')
      const reports = await Promise.all(open.map((connection) => connection.getStats()))
      return reports.map((report) => {
        const entries = [...report.values()]
        const { selectedCandidatePairId } = entries.find(({ type }) => type === 'transport')
        const { localCandidateId, remoteCandidateId } = report.get(selectedCandidatePairId)
        return [report.get(localCandidateId).candidateType, report.get(remoteCandidateId).candidateType] as string[]
      })
    })
  }

  /** Lets the page believe that its connection has failed, which would take half a minute. */
  fails() {
    return this.page.evaluate(() => {
      const connection = connections.at(-1)!
      Object.defineProperty(connection, 'connectionState', { value: 'failed', configurable: true })
      connection.dispatchEvent(new Event('connectionstatechange'))
      Reflect.deleteProperty(connection, 'connectionState')
    })
  }

  /** The name of the newest connection's ways, which is another one when they are looked for anew. */
  fragment() {
    return this.page.evaluate(() => connections.at(-1)!.localDescription!.sdp.match(/ice-ufrag:(\S+)/)![1]!)
  }

  /** How many connections the page has made since it was loaded. */
  made() {
    return this.page.evaluate(() => connections.length)
  }

  /** Waits until the page is in no call. */
  isFree() {
    return this.page.getByRole('button', { name: 'Video call' }).waitFor({ timeout: 10_000 })
  }

  hangsUp() {
    return this.press('Hang up')
  }
}

const addressOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`

/** A way to the server that can be cut, as a network is lost, and mended. */
class Line {
  readonly address: string
  readonly #server: Server
  readonly #sockets: Set<Socket>
  #isCut = false

  static async to(target: string) {
    const { hostname, port } = new URL(target)
    const sockets = new Set<Socket>()
    const server = createServer((near) => {
      if (line.#isCut) return near.destroy()
      const far = connect(Number(port), hostname)
      for (const [one, other] of [[near, far], [far, near]] as const) {
        sockets.add(one)
        one.pipe(other)
        one.on('error', () => other.destroy()).on('close', () => sockets.delete(one) && other.destroy())
      }
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const line = new Line(server, sockets)
    return line
  }

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server
    this.#sockets = sockets
    this.address = addressOf(server)
  }

  async cut() {
    this.#isCut = true
    this.#sockets.forEach((socket) => socket.destroy())
    await until(() => this.#sockets.size === 0)
  }

  mend() {
    this.#isCut = false
  }

  close() {
    this.#server.close()
    this.#sockets.forEach((socket) => socket.destroy())
  }
}
