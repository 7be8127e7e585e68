import type { TypedDocumentNode } from '@graphql-typed-document-node/core'
import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { after, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { format } from 'node:util'
import { buildSchema, type GraphQLFormattedError, isAbstractType, print } from 'graphql'
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

/** The server's own description of itself, as the repository holds it. */
export function readSchema() {
  const file = new URL('../../schema.graphql', import.meta.url)
  return buildSchema(readFileSync(file, 'utf8'))
}

/** Which types a union or an interface may be: a cache must know it to match fragments. */
export function possibleTypes() {
  const schema = readSchema()
  const abstract = Object.values(schema.getTypeMap()).filter(isAbstractType)
  return Object.fromEntries(abstract.map((type) => [type.name, schema.getPossibleTypes(type).map(({ name }) => name)]))
}

// ---------------------------------------------------------------- people

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token such as a host application makes. `key` is for those that forge one. */
export function signToken(claims: Record<string, unknown>, key = secret) {
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(claims)}`
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`
}

export type Person = ReturnType<typeof person>

/** A person with a fresh id: no test meets the people of another one. They may what the server's default is. */
export function person(org: string, name: string, permissions?: string[], url = httpUrl) {
  const id = `${name.toLowerCase()}-${randomUUID().slice(0, 8)}`
  const token = signToken({ sub: id, org, name, permissions, exp: Math.floor(Date.now() / 1000) + 3600 })
  const headers = { authorization: `Bearer ${token}` }

  /** Asks the server with no client and no cache between: what the tests hold the clients to. */
  async function ask<T, V>(document: TypedDocumentNode<T, V>, variables?: V): Promise<T> {
    const { data, errors } = await post(headers, { query: print(document), variables }, url)
    assert.equal(errors, undefined, JSON.stringify(errors))
    return data as T
  }
  return { id, name, token, headers, ask }
}

export async function post(headers: Record<string, string>, body: unknown, url = httpUrl) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json', ...headers },
    body: JSON.stringify(body),
  })
  return (await response.json()) as { data?: unknown; errors?: GraphQLFormattedError[] }
}

/** Alice and Bob of a new organisation, and the direct chat between them. */
export async function twoPeople(url = httpUrl) {
  const org = `org-${randomUUID()}`
  const [alice, bob] = [person(org, 'Alice', undefined, url), person(org, 'Bob', undefined, url)]
  // A person is known to the server from their first request on.
  await bob.ask(ViewerDocument)
  const opened = await alice.ask(OpenDirectChatDocument, { userId: bob.id })
  return { alice, bob, chatId: opened.openDirectChat!.chat.id }
}

export async function say(who: Person, chatId: string, text: string) {
  const sent = await who.ask(SendMessageDocument, { input: { chatId, text, nonce: randomUUID() } })
  return sent.sendMessage!.message
}

// ---------------------------------------------------------------- sockets

const lines: { terminate(): void }[] = []
after(() => lines.forEach((line) => line.terminate()))

/** A bare socket, hung up at the end of the tests whatever becomes of them. */
export function dial(protocol: string) {
  const line = new WebSocket(socketUrl, protocol)
  lines.push(line)
  return line
}

/** A graphql-ws client, and with it a way to cut its line as a lost network would. */
export function socketOf(who: Person): SocketClient & { cut(): void } {
  let line: WebSocket | undefined
  const connected = (socket: unknown) => lines.push((line = socket as WebSocket))
  const client = createClient({
    url: socketUrl,
    connectionParams: { Authorization: `Bearer ${who.token}` },
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    on: { connected },
  })
  return { ...client, cut: () => line?.terminate() }
}

// ---------------------------------------------------------------- waiting and comparing

/** Tries until it passes: for what comes by a subscription and so a moment later. */
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

/** The same for a mere condition. */
export const until = (condition: () => boolean) =>
  eventually(() => {
    if (!condition()) throw new Error(`this did not come true: ${condition}`)
  })

/** Clients ask for `__typename` in addition; an answer without is the same answer. */
export function withoutTypenames<T>(value: T): T {
  return JSON.parse(JSON.stringify(value, (key, inner) => (key === '__typename' ? undefined : inner)))
}

/** Fails the test if anything was told to the console: there the clients complain of a bad schema or answer. */
export function consoleStaysSilent(t: TestContext) {
  const complaints = (['warn', 'error'] as const).map((level) => t.mock.method(console, level))
  t.after(() => {
    const told = complaints.flatMap(({ mock }) => mock.calls.map((call) => format(...call.arguments)))
    assert.deepEqual(told, [])
  })
}
