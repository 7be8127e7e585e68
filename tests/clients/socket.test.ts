// The graphql-transport-ws protocol: first with the graphql-ws client, then frame by frame for everything that a
// correct client never does, and last with a connection that is dropped repeatedly.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { print } from 'graphql'
import type { Client } from 'graphql-ws'
import type { WebSocket } from 'ws'
import {
  ChatFeedDocument,
  type ChatFeedSubscription,
  type ChatFeedSubscriptionVariables,
  SendMessageDocument,
  ViewerDocument,
} from './generated/operations.ts'
import {
  createSocketClient,
  createTwoUsers,
  eventually,
  openRawSocket,
  sendText,
  signToken,
  until,
  type User,
} from './helpers.ts'

const { alice, bob, chatId } = await createTwoUsers()

suite('the graphql-ws client', () => {
  test('runs queries, mutations and subscriptions concurrently on one socket', async () => {
    const socket = createSocketClient(bob)
    const feeds = [collect(socket, { chatId }), collect(socket, { chatId, last: 10 })]
    await until(() => feeds.every((feed) => feed.caughtUp()))

    const query = print(ViewerDocument)
    const viewers = await Promise.all(Array.from({ length: 10 }, () => request(socket, { query })))
    for (const { data } of viewers) assert.equal(data?.viewer.user.id, bob.id)

    const input = { chatId, text: 'by socket' }
    const sent = await request(socket, { query: print(SendMessageDocument), variables: { input } })
    assert.equal(sent.data?.sendMessage.message.text, 'by socket')

    await sendText(alice, chatId, 'by http')
    await eventually(() => {
      for (const feed of feeds) assert.deepEqual(feed.texts(), ['by socket', 'by http'])
    })
  })

  test('receives a request error as an error, not as data', async () => {
    const socket = createSocketClient(bob)
    const twoFields = 'subscription { a: messageAdded { id } b: messageAdded { id } }'
    await assert.rejects(request(socket, { query: '{ nonsense }' }), Array.isArray)
    await assert.rejects(request(socket, { query: twoFields }), Array.isArray)
    // The socket remains usable.
    const { data } = await request(socket, { query: '{ viewer { user { id } } }' })
    assert.equal(data?.viewer.user.id, bob.id)
  })
})

suite('authentication', () => {
  const eve = { sub: 'eve', org: 'an-org', name: 'Eve' }
  const now = Math.floor(Date.now() / 1000)
  const expired = signToken({ ...eve, exp: now - 3600 })
  const forged = signToken({ ...eve, exp: now + 3600 }, 'x'.repeat(32))

  test('an expired token closes with 4403, after which clients retry with a new token', async () => {
    const raw = await RawSocket.open()
    raw.send({ type: 'connection_init', payload: { Authorization: `Bearer ${expired}` } })
    assert.equal(await raw.closeCode(), 4403)
  })

  test('a forged token closes with 4401 or 4403', async () => {
    const raw = await RawSocket.open()
    raw.send({ type: 'connection_init', payload: { Authorization: `Bearer ${forged}` } })
    const code = await raw.closeCode()
    assert.ok(code === 4401 || code === 4403, `closed with ${code}`)
  })

  test('the legacy subprotocol is rejected with 4406', async () => {
    const socket = openRawSocket('graphql-ws')
    const refused = Promise.race([once(socket, 'error').then(() => 4406), once(socket, 'close').then(([code]) => code)])
    assert.equal(await refused, 4406)
  })
})

suite('the protocol, frame by frame', () => {
  const subscribe = (id: string, query: string) => ({ id, type: 'subscribe', payload: { query } })
  const live = `subscription { messageAdded(chatId: "${chatId}") { text } }`

  test('connection_init is answered by connection_ack', async () => {
    const raw = await RawSocket.open()
    raw.send({ type: 'connection_init', payload: { Authorization: `Bearer ${bob.token}` } })
    assert.equal((await raw.next()).type, 'connection_ack')
  })

  test('no connection_init in time: 4408', async () => {
    const raw = await RawSocket.open()
    assert.equal(await raw.closeCode(), 4408)
  })

  test('subscribe before the ack: 4401', async () => {
    const raw = await RawSocket.open()
    raw.send(subscribe('1', '{ __typename }'))
    assert.equal(await raw.closeCode(), 4401)
  })

  test('a second connection_init: 4429', async () => {
    const raw = await RawSocket.openAs(bob)
    raw.send({ type: 'connection_init', payload: { Authorization: `Bearer ${bob.token}` } })
    assert.equal(await raw.closeCode(), 4429)
  })

  test('an id that is in use: 4409', async () => {
    const raw = await RawSocket.openAs(bob)
    raw.send(subscribe('1', live))
    raw.send(subscribe('1', live))
    assert.equal(await raw.closeCode(), 4409)
  })

  test('an id is free again after its operation completes', async () => {
    const raw = await RawSocket.openAs(bob)
    for (let round = 0; round < 2; round++) {
      raw.send(subscribe('1', '{ __typename }'))
      assert.deepEqual(await raw.next(), { id: '1', type: 'next', payload: { data: { __typename: 'Query' } } })
      assert.deepEqual(await raw.next(), { id: '1', type: 'complete' })
    }
  })

  const malformed = {
    'invalid JSON': '{"type":',
    'a string instead of an object': '"ping"',
    'an unknown type': JSON.stringify({ type: 'shout' }),
    // A close frame has room for a reason of 123 bytes.
    'an unknown type of 200 characters': JSON.stringify({ type: 'é'.repeat(200) }),
    'subscribe without an id': JSON.stringify({ type: 'subscribe', payload: { query: '{ __typename }' } }),
    'subscribe with an empty id': JSON.stringify(subscribe('', '{ __typename }')),
    'subscribe without a query': JSON.stringify({ id: '1', type: 'subscribe', payload: {} }),
  }
  for (const [name, frame] of Object.entries(malformed)) {
    test(`${name}: 4400`, async () => {
      const raw = await RawSocket.openAs(bob)
      raw.sendRaw(frame)
      assert.equal(await raw.closeCode(), 4400)
    })
  }

  test('a ping is answered by a pong with its payload', async () => {
    const raw = await RawSocket.openAs(bob)
    raw.send({ type: 'ping', payload: { at: 'noon' } })
    assert.deepEqual(await raw.next(), { type: 'pong', payload: { at: 'noon' } })
  })

  test('a request error is one error frame', async () => {
    const raw = await RawSocket.openAs(bob)
    raw.send(subscribe('1', '{ nonsense }'))
    const { type, payload } = await raw.next()
    assert.equal(type, 'error')
    assert.ok(Array.isArray(payload), 'the payload is a list of errors')
    await raw.expectNoFrame()
  })

  test('the server answers the close frame of the client', async () => {
    const raw = await RawSocket.openAs(bob)
    raw.close()
    assert.equal(await raw.closeCode(), 1000)
  })

  test('no message follows after the client completes an operation', async () => {
    const raw = await RawSocket.openAs(bob)
    raw.send(subscribe('1', `subscription { chatFeed(chatId: "${chatId}") { __typename } }`))
    const caughtUp = { id: '1', type: 'next', payload: { data: { chatFeed: { __typename: 'FeedCaughtUp' } } } }
    assert.deepEqual(await raw.next(), caughtUp)

    raw.send({ id: '1', type: 'complete' })
    raw.send({ type: 'ping' })
    assert.equal((await raw.next()).type, 'pong')
    await sendText(alice, chatId, 'after complete')
    await raw.expectNoFrame()
  })
})

test('a feed that is dropped repeatedly and resumed from its cursor misses no message', async () => {
  const socket = createSocketClient(bob)
  const first = collect(socket, { chatId })
  await until(() => first.caughtUp())

  const texts = Array.from({ length: 60 }, (_, n) => `message ${n}`)
  const sending = (async () => {
    for (const text of texts) await sendText(alice, chatId, text)
  })()

  // Each feed is dropped after some events, and the next one resumes from the last cursor.
  const received: string[] = []
  let feed = first
  let drops = 0
  while (received.length < texts.length) {
    await until(() => feed.events.length >= 8 || received.length + feed.texts().length >= texts.length)
    socket.dropConnection()
    drops++
    await feed.ended
    received.push(...feed.texts())
    feed = collect(socket, { chatId, after: feed.cursor(), last: 5 })
    await until(() => feed.caughtUp())
  }
  await sending
  assert.deepEqual(received, texts)
  assert.ok(drops > 1, 'the connection was dropped only once')
})

// ---------------------------------------------------------------- with the graphql-ws client

type Result = { data?: Record<string, any> | null }

/** Runs a query or mutation over the socket, and returns its result. */
function request(socket: Client, payload: { query: string; variables?: Record<string, unknown> }) {
  return new Promise<Result>((resolve, reject) => {
    let result: Result = {}
    const next = (value: Result) => void (result = value)
    socket.subscribe(payload, { next, error: reject, complete: () => resolve(result) })
  })
}

/** Subscribes to a chat's feed, and collects its events. */
function collect(socket: Client, variables: ChatFeedSubscriptionVariables) {
  const events: ChatFeedSubscription['chatFeed'][] = []
  const ended = new Promise<void>((resolve) => {
    const request = { query: print(ChatFeedDocument), variables }
    socket.subscribe<ChatFeedSubscription>(request, {
      next: ({ data }) => void events.push(data!.chatFeed),
      error: () => resolve(),
      complete: resolve,
    })
  })
  const messages = () => events.flatMap((event) => (event.__typename === 'MessageUpserted' ? [event.message] : []))
  return {
    events,
    ended,
    caughtUp: () => events.some((event) => event.__typename === 'FeedCaughtUp'),
    cursor: () => events.at(-1)?.cursor ?? (variables.after as string),
    texts: () => messages().filter(({ kind }) => kind === 'TEXT').map(({ text }) => text!),
  }
}

// ---------------------------------------------------------------- frame by frame

type Frame = { id?: string; type: string; payload?: unknown }

/** A WebSocket without a client library, with its frames and its close code. */
class RawSocket {
  readonly #received: Frame[] = []
  readonly #closed: Promise<number>
  readonly #socket: WebSocket

  private constructor(socket: WebSocket) {
    this.#socket = socket
    this.#closed = once(socket, 'close').then(([code]) => code)
    socket.on('message', (text) => this.#received.push(JSON.parse(String(text))))
  }

  static async open() {
    const socket = openRawSocket('graphql-transport-ws')
    const raw = new RawSocket(socket)
    await once(socket, 'open')
    return raw
  }

  static async openAs(user: User) {
    const raw = await RawSocket.open()
    raw.send({ type: 'connection_init', payload: { Authorization: `Bearer ${user.token}` } })
    assert.equal((await raw.next()).type, 'connection_ack')
    return raw
  }

  send(frame: Frame) {
    this.sendRaw(JSON.stringify(frame))
  }

  sendRaw(text: string) {
    this.#socket.send(text)
  }

  /** Returns the next frame, without the server's pings. */
  async next(): Promise<Frame> {
    await until(() => this.#received.length > 0)
    const frame = this.#received.shift()!
    return frame.type === 'ping' ? this.next() : frame
  }

  /** Returns the close code; 0 if the socket is open after 15 seconds, longer than any timeout of the server. */
  closeCode() {
    return Promise.race([this.#closed, sleep(15_000, 0, { ref: false })])
  }

  close() {
    this.#socket.close(1000)
  }

  async expectNoFrame() {
    await sleep(300)
    assert.deepEqual(this.#received.filter(({ type }) => type !== 'ping'), [])
  }
}
