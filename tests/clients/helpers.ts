import type { TypedDocumentNode } from '@graphql-typed-document-node/core'
import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { after, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { format } from 'node:util'
import { buildSchema, type GraphQLFormattedError, print } from 'graphql'
import { type Client as SocketClient, createClient } from 'graphql-ws'
import { WebSocket } from 'ws'
import { OpenDirectChatDocument, SendMessageDocument, ViewerDocument } from './generated/operations.ts'

const fromEnvironment = (name: string) => {
  const value = process.env[name]
  assert.ok(value, `${name} must be set: see README.md`)
  return value
}

export const httpUrl = new URL('/graphql', fromEnvironment('PARLOR_TEST_URL')).href
export const socketUrl = httpUrl.replace(/^http/, 'ws')
const secret = fromEnvironment('PARLOR_TEST_SECRET')

/** Returns the schema in the repository. */
export function readSchema() {
  const file = new URL('../../schema.graphql', import.meta.url)
  return buildSchema(readFileSync(file, 'utf8'))
}

// ---------------------------------------------------------------- users

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Signs a token as a host application does. Another `key` makes it a forged one. */
export function signToken(claims: Record<string, unknown>, key = secret) {
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(claims)}`
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`
}

export type User = ReturnType<typeof createUser>

/** Creates a user with a new id, so that tests don't share users. By default the server's permissions apply. */
export function createUser(org: string, name: string, permissions?: string[], url = httpUrl) {
  const id = `${name.toLowerCase()}-${randomUUID().slice(0, 8)}`
  const token = signToken({ sub: id, org, name, permissions, exp: Math.floor(Date.now() / 1000) + 3600 })
  const headers = { authorization: `Bearer ${token}` }

  /** Sends an operation without a client library or a cache: the reference for the clients under test. */
  async function ask<T, V>(document: TypedDocumentNode<T, V>, variables?: V): Promise<T> {
    const { data, errors } = await post(headers, { query: print(document), variables }, url)
    assert.equal(errors, undefined, JSON.stringify(errors))
    return data as T
  }
  return { id, org, name, token, headers, ask }
}

export async function post(headers: Record<string, string>, body: unknown, url = httpUrl) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json', ...headers },
    body: JSON.stringify(body),
  })
  return (await response.json()) as { data?: unknown; errors?: GraphQLFormattedError[] }
}

/** Creates Alice and Bob in a new organisation, and their direct chat. */
export async function createTwoUsers(url = httpUrl) {
  const org = `org-${randomUUID()}`
  const [alice, bob] = [createUser(org, 'Alice', undefined, url), createUser(org, 'Bob', undefined, url)]
  // The server registers a user at their first request.
  await bob.ask(ViewerDocument)
  const opened = await alice.ask(OpenDirectChatDocument, { userId: bob.id })
  return { alice, bob, chatId: opened.openDirectChat!.chat.id }
}

export async function sendText(user: User, chatId: string, text: string) {
  const sent = await user.ask(SendMessageDocument, { input: { chatId, text, nonce: randomUUID() } })
  return sent.sendMessage!.message
}

// ---------------------------------------------------------------- sockets

const sockets: { terminate(): void }[] = []
after(() => sockets.forEach((socket) => socket.terminate()))

/** Opens a WebSocket without a client library. It is closed at the end of the tests, even if they fail. */
export function openRawSocket(protocol: string) {
  const socket = new WebSocket(socketUrl, protocol)
  sockets.push(socket)
  return socket
}

/** Creates a graphql-ws client that can drop its connection like a lost network. */
export function createSocketClient(user: User): SocketClient & { dropConnection(): void } {
  let current: WebSocket | undefined
  const connected = (socket: unknown) => sockets.push((current = socket as WebSocket))
  const client = createClient({
    url: socketUrl,
    connectionParams: { Authorization: `Bearer ${user.token}` },
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    on: { connected },
  })
  return { ...client, dropConnection: () => current?.terminate() }
}

// ---------------------------------------------------------------- waiting and comparing

/** Repeats an attempt until it succeeds, because events of a subscription arrive with a delay. */
export async function eventually<T>(attempt: () => T | Promise<T>, milliseconds = 5_000): Promise<T> {
  const deadline = Date.now() + milliseconds
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (Date.now() > deadline) throw error
      await sleep(20)
    }
  }
}

/** Waits until a condition is true. */
export const until = (condition: () => boolean) =>
  eventually(() => {
    if (!condition()) throw new Error(`not true in time: ${condition}`)
  })

/** Removes each `__typename`, which clients add to their operations. */
export function withoutTypenames<T>(value: T): T {
  return JSON.parse(JSON.stringify(value, (key, inner) => (key === '__typename' ? undefined : inner)))
}

/** Fails the test if a warning or an error is logged: clients log problems with a schema or a response. */
export function expectSilentConsole(t: TestContext) {
  const methods = (['warn', 'error'] as const).map((level) => t.mock.method(console, level))
  t.after(() => {
    const logged = methods.flatMap(({ mock }) => mock.calls.map((call) => format(...call.arguments)))
    assert.deepEqual(logged, [])
  })
}
