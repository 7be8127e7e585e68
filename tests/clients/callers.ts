// Opens the page of examples/call in Chromium, with the browser's fake camera and microphone, and with a proxy between
// each page and the server that can drop the connection.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { Browser, Page } from 'playwright-core'
import { launch } from './browser.ts'
import { eventually, until, type User } from './helpers.ts'

const flags = [
  // A few frames per second are enough to detect a video.
  '--use-fake-device-for-media-stream=fps=5',
  '--use-fake-ui-for-media-stream',
  // Media between two pages on one machine, even without a network.
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
]

/** A script that exposes the page's peer connections to the test; a string, because Node does not run it. */
const exposeConnections = `{
  window.connections = []
  const Original = RTCPeerConnection
  window.RTCPeerConnection = function (configuration) {
    const connection = new Original(configuration)
    connections.push(connection)
    return connection
  }
}`

declare const connections: RTCPeerConnection[]

/** The address of Parlor, and whether all media goes through a relay. */
export type Options = { server: string; relay?: boolean }
export type Kind = 'audio' | 'video'
export type Environment = Awaited<ReturnType<typeof startEnvironment>>

/** Starts a browser, and the example's server for its page. */
export async function startEnvironment() {
  process.env.PORT = '0'
  const { server } = (await import(new URL('../../examples/call/serve.js', import.meta.url).href)) as { server: Server }
  if (!server.listening) await once(server, 'listening')
  const browser = await launch(...flags)
  const callers: Caller[] = []

  return {
    /** Opens the page for a user and a chat, as another device at each call. */
    async openCaller(user: User, chatId: string, options: Options) {
      const caller = await Caller.open(browser, addressOf(server), user, chatId, options)
      callers.push(caller)
      return caller
    },
    async close() {
      await browser.close()
      callers.forEach((caller) => caller.proxy.close())
      server.close()
    },
  }
}

export class Caller {
  readonly user: User
  readonly page: Page
  readonly proxy: TcpProxy
  /** Uncaught errors of the page. */
  readonly errors: string[] = []

  private constructor(user: User, page: Page, proxy: TcpProxy) {
    this.user = user
    this.page = page
    this.proxy = proxy
    page.on('pageerror', (error) => this.errors.push(String(error)))
  }

  static async open(browser: Browser, address: string, user: User, chatId: string, options: Options) {
    const proxy = await TcpProxy.start(options.server)
    const context = await browser.newContext()
    await context.addInitScript(exposeConnections)
    const page = await context.newPage()
    const search = new URLSearchParams({ server: proxy.address, ...(options.relay && { relay: '' }) })
    const hash = new URLSearchParams({ token: user.token, chat: chatId })
    await page.goto(`${address}?${search}#${hash}`)
    const caller = new Caller(user, page, proxy)
    await caller.waitForText('status', `You are ${user.name}.`)
    return caller
  }

  /** Duplicates the tab: the new one has a copy of the session storage, as with a browser's “Duplicate tab”. */
  async duplicate() {
    const opened = this.page.context().waitForEvent('page')
    await this.page.evaluate(() => void window.open(location.href))
    const copy = new Caller(this.user, await opened, this.proxy)
    await copy.waitForText('status', `You are ${this.user.name}.`)
    return copy
  }

  press(name: string) {
    return this.page.getByRole('button', { name, exact: true }).click({ timeout: 10_000 })
  }

  /** Waits until a part of the page contains a text. */
  waitForText(part: string, expected: string | RegExp, milliseconds = 15_000) {
    return eventually(async () => {
      const text = await this.page.locator(`#${part}`).innerText()
      const found = typeof expected === 'string' ? text.includes(expected) : expected.test(text)
      assert.ok(found, `the page of ${this.user.name} shows “${text}”, not ${expected}`)
    }, milliseconds)
  }

  /** Waits until the page shows exactly these videos of other users. */
  waitForVideos(...names: string[]) {
    return eventually(async () => {
      const videos = this.page.locator('#videos video')
      const shown = await videos.evaluateAll((elements) => elements.map(({ ariaLabel }) => ariaLabel!))
      assert.deepEqual(shown.filter((name) => !name.startsWith('You')).sort(), names.sort())
    }, 15_000)
  }

  /** Waits until the page shows that the user is in the call in another tab or on another device. */
  waitUntilElsewhere() {
    return this.page.getByRole('button', { name: 'Move the call here' }).waitFor({ timeout: 10_000 })
  }

  waitUntilNotRinging() {
    return this.page.getByRole('alert').waitFor({ state: 'hidden', timeout: 10_000 })
  }

  /** Returns the number of open connections, and a counter of the received media for each track. */
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

  /** Waits until audio and video of this number of other users and screens are being received. */
  async waitForMedia(others = 1, screens = 0) {
    for (const kind of ['audio', 'video'] as const) {
      const before = (await this.received(kind)).tracks
      await eventually(async () => {
        const { open, tracks } = await this.received(kind)
        assert.equal(open, others, `open connections of ${this.user.name}`)
        const flowing = [...tracks].filter(([track, bytes]) => bytes > (before.get(track) ?? 0))
        const expected = kind === 'audio' ? others : others + screens
        assert.ok(flowing.length >= expected, `${this.user.name}: ${flowing.length} of ${expected} ${kind} tracks`)
      }, 20_000)
    }
  }

  /** Returns the types of the selected candidate pair of each open connection. */
  candidateTypes() {
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

  /** Simulates a failed connection; a real failure would take half a minute. */
  simulateFailure() {
    return this.page.evaluate(() => {
      const connection = connections.at(-1)!
      Object.defineProperty(connection, 'connectionState', { value: 'failed', configurable: true })
      connection.dispatchEvent(new Event('connectionstatechange'))
      Reflect.deleteProperty(connection, 'connectionState')
    })
  }

  /** Returns the ICE username fragment of the newest connection, which changes at an ICE restart. */
  iceFragment() {
    return this.page.evaluate(() => connections.at(-1)!.localDescription!.sdp.match(/ice-ufrag:(\S+)/)![1]!)
  }

  /** Returns the number of media sections of the newest connection's description, and its length without candidates. */
  descriptionSize() {
    return this.page.evaluate(() => {
      const { sdp } = connections.at(-1)!.localDescription!
      return { sections: sdp.match(/^m=/gm)!.length, length: sdp.replace(/^a=candidate:.*\r\n/gm, '').length }
    })
  }

  /** Makes an offer that is larger than a signal may be, but not larger than a message of the WebSocket. */
  makeLargeOffer(bytes = 280_000) {
    return this.page.evaluate((bytes) => {
      const sections = connections.at(-1)!.localDescription!.sdp.replace(/^a=candidate:.*\r\n/gm, '').split(/^(?=m=)/m)
      const { length } = JSON.stringify(sections.find((section) => section.startsWith('m=video')))
      for (let n = 0; n < bytes / length; n += 1) connections.at(-1)!.addTransceiver('video')
    }, bytes)
  }

  /** Returns the number of connections created since the page was loaded. */
  connectionCount() {
    return this.page.evaluate(() => connections.length)
  }

  /** Waits until the page is not in a call. */
  waitUntilIdle() {
    return this.page.getByRole('button', { name: 'Video call' }).waitFor({ timeout: 10_000 })
  }

  hangUp() {
    return this.press('Hang up')
  }
}

const addressOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/`

/** A TCP proxy in front of the server that can drop all connections, like a lost network, and delay what it passes. */
class TcpProxy {
  readonly address: string
  readonly #server: Server
  readonly #sockets: Set<Socket>
  /** The delay in each direction, in milliseconds. */
  delay = 0
  #isOffline = false

  static async start(target: string) {
    const { hostname, port } = new URL(target)
    const sockets = new Set<Socket>()
    const server = createServer((near) => {
      if (proxy.#isOffline) return near.destroy()
      const far = connect(Number(port), hostname)
      for (const [one, other] of [[near, far], [far, near]] as const) {
        sockets.add(one)
        one.on('data', (data) => {
          if (proxy.delay === 0) other.write(data)
          else setTimeout(() => other.write(data), proxy.delay)
        })
        one.on('error', () => other.destroy()).on('close', () => sockets.delete(one) && other.destroy())
      }
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const proxy = new TcpProxy(server, sockets)
    return proxy
  }

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server
    this.#sockets = sockets
    this.address = addressOf(server)
  }

  async goOffline() {
    this.#isOffline = true
    this.#sockets.forEach((socket) => socket.destroy())
    await until(() => this.#sockets.size === 0)
  }

  goOnline() {
    this.#isOffline = false
  }

  close() {
    this.#server.close()
    this.#sockets.forEach((socket) => socket.destroy())
  }
}
