// The graphql-transport-ws protocol: first as the graphql-ws client sees it, then frame by frame for
// what a well-behaved client never does, and last a line that is cut again and again.

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
import { dial, eventually, type Person, say, signToken, socketOf, twoPeople, until } from './helpers.ts'

const { alice, bob, chatId } = await twoPeople()

suite('the graphql-ws client', () => {
  test('queries, sends and subscribes on one socket, many at once', async () => {
    const socket = socketOf(bob)
    const heard = [collect(socket, { chatId }), collect(socket, { chatId, last: 10 })]
    await until(() => heard.every((feed) => feed.caughtUp()))

    const query = print(ViewerDocument)
    const viewers = await Promise.all(Array.from({ length: 10 }, () => answer(socket, { query })))
    for (const { data } of viewers) assert.equal(data?.viewer.user.id, bob.id)

    const input = { chatId, text: 'by socket' }
    const sent = await answer(socket, { query: print(SendMessageDocument), variables: { input } })
    assert.equal(sent.data?.sendMessage.message.text, 'by socket')

    await say(alice, chatId, 'by http')
    await eventually(() => {
      for (const feed of heard) assert.deepEqual(feed.texts(), ['by socket', 'by http'])
    })
  })

  test('gets a request error as an error, and not as data', async () => {
    const socket = socketOf(bob)
    const twoFields = 'subscription { a: messageAdded { id } b: messageAdded { id } }'
    await assert.rejects(answer(socket, { query: '{ nonsense }' }), Array.isArray)
    await assert.rejects(answer(socket, { query: twoFields }), Array.isArray)
    // The socket is none the worse.
    const { data } = await answer(socket, { query: '{ viewer { user { id } } }' })
    assert.equal(data?.viewer.user.id, bob.id)
  })
})

suite('who may connect', () => {
  const eve = { sub: 'eve', org: 'an-org', name: 'Eve' }
  const now = Math.floor(Date.now() / 1000)
  const expired = signToken({ ...eve, exp: now - 3600 })
  const forged = signToken({ ...eve, exp: now + 3600 }, 'x'.repeat(32))

  test('an expired token closes with 4403, which clients try again with a fresh one', async () => {
    const line = await Line.open()
    line.send({ type: 'connection_init', payload: { Authorization: `Bearer ${expired}` } })
    assert.equal(await line.closed(), 4403)
  })

  test('a forged token closes too', async () => {
    const line = await Line.open()
    line.send({ type: 'connection_init', payload: { Authorization: `Bearer ${forged}` } })
    const code = await line.closed()
    assert.ok(code === 4401 || code === 4403, `closed with ${code}`)
  })

  test('the legacy subprotocol is refused', async () => {
    const socket = dial('graphql-ws')
    const refused = Promise.race([once(socket, 'error').then(() => 4406), once(socket, 'close').then(([code]) => code)])
    assert.equal(await refused, 4406)
  })
})

suite('the protocol, frame by frame', () => {
  const subscribe = (id: string, query: string) => ({ id, type: 'subscribe', payload: { query } })
  const live = `subscription { messageAdded(chatId: "${chatId}") { text } }`

  test('connection_init is answered by connection_ack', async () => {
    const line = await Line.open()
    line.send({ type: 'connection_init', payload: { Authorization: `Bearer ${bob.token}` } })
    assert.equal((await line.next()).type, 'connection_ack')
  })

  test('no connection_init in time: 4408', async () => {
    const line = await Line.open()
    assert.equal(await line.closed(), 4408)
  })

  test('subscribe before the ack: 4401', async () => {
    const line = await Line.open()
    line.send(subscribe('1', '{ __typename }'))
    assert.equal(await line.closed(), 4401)
  })

  test('a second connection_init: 4429', async () => {
    const line = await Line.openFor(bob)
    line.send({ type: 'connection_init', payload: { Authorization: `Bearer ${bob.token}` } })
    assert.equal(await line.closed(), 4429)
  })

  test('an id that is in use: 4409', async () => {
    const line = await Line.openFor(bob)
    line.send(subscribe('1', live))
    line.send(subscribe('1', live))
    assert.equal(await line.closed(), 4409)
  })

  test('an id may be used again once it is complete', async () => {
    const line = await Line.openFor(bob)
    for (let round = 0; round < 2; round++) {
      line.send(subscribe('1', '{ __typename }'))
      assert.deepEqual(await line.next(), { id: '1', type: 'next', payload: { data: { __typename: 'Query' } } })
      assert.deepEqual(await line.next(), { id: '1', type: 'complete' })
    }
  })

  const malformed = {
    'no JSON': '{"type":',
    'no object': '"ping"',
    'an unknown type': JSON.stringify({ type: 'shout' }),
    // The close frame has room for 123 bytes of reason.
    'an unknown type of 200 letters': JSON.stringify({ type: 'é'.repeat(200) }),
    'subscribe with no id': JSON.stringify({ type: 'subscribe', payload: { query: '{ __typename }' } }),
    'subscribe with an empty id': JSON.stringify(subscribe('', '{ __typename }')),
    'subscribe with no query': JSON.stringify({ id: '1', type: 'subscribe', payload: {} }),
  }
  for (const [what, frame] of Object.entries(malformed)) {
    test(`${what}: 4400`, async () => {
      const line = await Line.openFor(bob)
      line.sendRaw(frame)
      assert.equal(await line.closed(), 4400)
    })
  }

  test('a ping is answered by a pong with its payload', async () => {
    const line = await Line.openFor(bob)
    line.send({ type: 'ping', payload: { at: 'noon' } })
    assert.deepEqual(await line.next(), { type: 'pong', payload: { at: 'noon' } })
  })

  test('a request error is one error frame', async () => {
    const line = await Line.openFor(bob)
    line.send(subscribe('1', '{ nonsense }'))
    const { type, payload } = await line.next()
    assert.equal(type, 'error')
    assert.ok(Array.isArray(payload), 'the payload is a list of errors')
    await line.nothingMore()
  })

  test('the client hangs up, and the server answers its close frame', async () => {
    const line = await Line.openFor(bob)
    line.hangUp()
    assert.equal(await line.closed(), 1000)
  })

  test('after the client completes, nothing more comes', async () => {
    const line = await Line.openFor(bob)
    line.send(subscribe('1', `subscription { chatFeed(chatId: "${chatId}") { __typename } }`))
    const caughtUp = { id: '1', type: 'next', payload: { data: { chatFeed: { __typename: 'FeedCaughtUp' } } } }
    assert.deepEqual(await line.next(), caughtUp)

    line.send({ id: '1', type: 'complete' })
    line.send({ type: 'ping' })
    assert.equal((await line.next()).type, 'pong')
    await say(alice, chatId, 'Do you hear me?')
    await line.nothingMore()
  })
})

test('a feed that is cut again and again, and resumed from its cursor, misses nothing', async () => {
  const socket = socketOf(bob)
  const first = collect(socket, { chatId })
  await until(() => first.caughtUp())

  const said = Array.from({ length: 60 }, (_, n) => `message ${n}`)
  const talking = (async () => {
    for (const text of said) await say(alice, chatId, text)
  })()

  // Each feed is cut after some events of it, and the next one goes on from the last cursor.
  const heard: string[] = []
  let feed = first
  let cuts = 0
  while (heard.length < said.length) {
    await until(() => feed.events.length >= 8 || heard.length + feed.texts().length >= said.length)
    socket.cut()
    cuts++
    await feed.ended
    heard.push(...feed.texts())
    feed = collect(socket, { chatId, after: feed.cursor(), last: 5 })
    await until(() => feed.caughtUp())
  }
  await talking
  assert.deepEqual(heard, said)
  assert.ok(cuts > 1, 'the line was hardly ever cut')
})

// ---------------------------------------------------------------- by the client

type Result = { data?: Record<string, any> | null }

/** The one result of a query or mutation that goes over the socket. */
function answer(socket: Client, request: { query: string; variables?: Record<string, unknown> }) {
  return new Promise<Result>((resolve, reject) => {
    let result: Result = {}
    const next = (value: Result) => void (result = value)
    socket.subscribe(request, { next, error: reject, complete: () => resolve(result) })
  })
}

/** A chat's feed, and what it has told until now. */
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

// ---------------------------------------------------------------- by hand

type Frame = { id?: string; type: string; payload?: unknown }

/** A bare socket: frames as they are, and the code it is closed with. */
class Line {
  readonly #arrived: Frame[] = []
  readonly #closed: Promise<number>
  readonly #socket: WebSocket

  private constructor(socket: WebSocket) {
    this.#socket = socket
    this.#closed = once(socket, 'close').then(([code]) => code)
    socket.on('message', (text) => this.#arrived.push(JSON.parse(String(text))))
  }

  static async open() {
    const socket = dial('graphql-transport-ws')
    const line = new Line(socket)
    await once(socket, 'open')
    return line
  }

  static async openFor(who: Person) {
    const line = await Line.open()
    line.send({ type: 'connection_init', payload: { Authorization: `Bearer ${who.token}` } })
    assert.equal((await line.next()).type, 'connection_ack')
    return line
  }

  send(frame: Frame) {
    this.sendRaw(JSON.stringify(frame))
  }

  sendRaw(text: string) {
    this.#socket.send(text)
  }

  /** The next frame; the server's own pings are not looked at. */
  async next(): Promise<Frame> {
    await until(() => this.#arrived.length > 0)
    const frame = this.#arrived.shift()!
    return frame.type === 'ping' ? this.next() : frame
  }

  /** The code that the server closes with; 0 if it doesn't, though no client is waited for so long. */
  closed() {
    return Promise.race([this.#closed, sleep(15_000, 0, { ref: false })])
  }

  hangUp() {
    this.#socket.close(1000)
  }

  async nothingMore() {
    await sleep(300)
    assert.deepEqual(this.#arrived.filter(({ type }) => type !== 'ping'), [])
  }
}
