// The recipes of README.md and docs/CLIENTS.md: the documents show exactly the files in recipes/, and these tests run
// them with real clients against the server, through proxies that cut, silence and delay their connections.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { suite, test, type TestContext } from 'node:test'
import { gql } from '@apollo/client'
import { isDeepStrictEqual } from 'node:util'
import { WebSocket } from 'ws'
import {
  AddMembersDocument,
  CreateChatDocument,
  type CreateChatInput,
  EditMessageDocument,
  EnsureResourceChatDocument,
  JustSendDocument,
  LeaveChatDocument,
  MarkReadDocument,
  RemoveMemberDocument,
  StartCallDocument,
  ViewerDocument,
} from './generated/operations.ts'
import { createUser, eventually, httpUrl, sendText, socketUrl, type User } from './helpers.ts'
import { Proxy } from './proxy.ts'
import { createApollo } from './recipes/apollo.ts'
import * as apolloFeeds from './recipes/apollo-feeds.ts'
import type { FeedState } from './recipes/follow.ts'
import { ChatEventsDocument, OpenChatDocument, OpenInboxDocument } from './recipes/operations.ts'
import { openSocket } from './recipes/socket.ts'
import { createUrql } from './recipes/urql.ts'
import * as urqlFeeds from './recipes/urql-feeds.ts'

const recipe = (name: string) => readFileSync(new URL(`./recipes/${name}`, import.meta.url), 'utf8')
const document = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

// ---------------------------------------------------------------- documents

test('the documents show exactly the recipes that are tested', () => {
  const blocks = ['README.md', 'docs/CLIENTS.md'].flatMap((name) => {
    return [...document(name).matchAll(/^```(ts|graphql)\n(.*?)^```$/gms)].map((match) => match[2]!)
  })
  const shown = new Map(blocks.map((block) => [/^(?:\/\/|#) (\S+)$/m.exec(block)?.[1] ?? 'unnamed', block]))
  const generated = ['schema.ts', 'operations.ts']
  const recipes = readdirSync(new URL('./recipes', import.meta.url)).filter((name) => !generated.includes(name))
  assert.deepEqual([...shown.keys()].sort(), recipes.sort())
  for (const name of recipes) assert.equal(shown.get(name), recipe(name), `${name} differs from the document`)
})

// ---------------------------------------------------------------- the two clients

interface Item {
  id: string
  text: string | null
}

/** A screen with the list of chats and one chat, as a recipe keeps it up to date. */
interface Screen {
  followInbox(): Promise<void>
  followChat(chatId: string): Promise<void>
  /** Returns what is shown. */
  messages(chatId: string): Item[] | undefined
  chats(): { id: string; lastMessage: { text: string | null } | null }[] | undefined
  /** Queries a chat again. */
  refetch(chatId: string): Promise<unknown>
  states: FeedState[]
}

interface Network {
  http: Proxy
  socket: Proxy
}

async function openNetwork(t: TestContext): Promise<Network> {
  const [http, socket] = [await Proxy.open(httpUrl), await Proxy.open(socketUrl)]
  t.after(() => [http, socket].forEach((proxy) => proxy.close()))
  return { http, socket }
}

/** A terminated connection that was not open yet emits an error, which would end the process. */
class TestWebSocket extends WebSocket {
  constructor(...args: ConstructorParameters<typeof WebSocket>) {
    super(...args)
    this.on('error', () => {})
  }
}

function openTestSocket(t: TestContext, user: User, url = socketUrl) {
  const [freshToken, timeouts] = [async () => user.token, { pingInterval: 500, pongTimeout: 1_000, connectTimeout: 1_000 }]
  const client = openSocket({ url, freshToken, webSocketImpl: TestWebSocket, ...timeouts })
  t.after(() => client.dispose())
  return client
}

const live = (states: FeedState[]) => eventually(() => assert.equal(states.at(-1), 'live'), 20_000)

function apolloScreen(t: TestContext, user: User, network: Network): Screen {
  const client = createApollo(network.http.url, async () => user.token, openTestSocket(t, user, network.socket.url))
  t.after(() => client.stop())
  const states: FeedState[] = []
  const follow = async (start: (onState: (state: FeedState) => void) => () => void) => {
    t.after(start((state) => states.push(state)))
    await live(states)
  }
  return {
    states,
    followInbox: () => follow((onState) => apolloFeeds.followInbox(client, onState)),
    followChat: (chatId) => follow((onState) => apolloFeeds.followChat(client, chatId, onState)),
    messages: (chatId) =>
      client.readQuery({ query: OpenChatDocument, variables: { chatId } })?.chat?.messages.edges.map(({ node }) => node),
    chats: () => client.readQuery({ query: OpenInboxDocument })?.chats.nodes,
    refetch: (chatId) => client.query({ query: OpenChatDocument, variables: { chatId }, fetchPolicy: 'network-only' }),
  }
}

function urqlScreen(t: TestContext, user: User, network: Network): Screen {
  const client = createUrql(network.http.url, async () => user.token, openTestSocket(t, user, network.socket.url))
  const states: FeedState[] = []
  const shown = new Map<string, any>()
  // Like a mounted component: graphcache queries again what an event made incomplete.
  const show = (key: string, source: { subscribe: (next: (result: { data?: any }) => void) => { unsubscribe(): void } }) => {
    t.after(source.subscribe(({ data }) => shown.set(key, data)).unsubscribe)
  }
  const follow = async (start: (onState: (state: FeedState) => void) => () => void) => {
    t.after(start((state) => states.push(state)))
    await live(states)
  }
  return {
    states,
    followInbox: async () => {
      await follow((onState) => urqlFeeds.followInbox(client, onState))
      show('inbox', client.query(OpenInboxDocument, {}))
    },
    followChat: async (chatId) => {
      await follow((onState) => urqlFeeds.followChat(client, chatId, onState))
      show(chatId, client.query(OpenChatDocument, { chatId }))
    },
    messages: (chatId) => shown.get(chatId)?.chat?.messages.edges.map(({ node }: { node: Item }) => node),
    chats: () => shown.get('inbox')?.chats.nodes,
    refetch: (chatId) => client.query(OpenChatDocument, { chatId }, { requestPolicy: 'network-only' }).toPromise(),
  }
}

const screens = { 'Apollo Client': apolloScreen, urql: urqlScreen }

// ---------------------------------------------------------------- the server's state

async function createGroup() {
  const org = `org-${randomUUID()}`
  const [alice, bob] = [createUser(org, 'Alice'), createUser(org, 'Bob')]
  await bob.ask(ViewerDocument)
  const input: CreateChatInput = { kind: 'GROUP', title: 'Walk', memberIds: [bob.id] }
  const created = await alice.ask(CreateChatDocument, { input })
  return { alice, bob, chatId: created.createChat!.chat.id }
}

async function sendMany(user: User, chatId: string, count: number, label: string) {
  const send = (n: number) => user.ask(JustSendDocument, { input: { chatId, text: `${label} ${n}`, nonce: randomUUID() } })
  for (let sent = 0; sent < count; sent += 50) {
    await Promise.all(Array.from({ length: Math.min(50, count - sent) }, (_, n) => send(sent + n)))
  }
}

/** Waits until the end of the list on the screen is what the server has. */
async function expectMessages(screen: Screen, user: User, chatId: string) {
  const expected: Item[] = []
  let before: string | null | undefined
  do {
    const page = (await user.ask(OpenChatDocument, { chatId, last: 100, before })).chat!.messages
    expected.unshift(...page.edges.map(({ node }) => ({ id: node.id, text: node.text })))
    before = page.pageInfo.hasPreviousPage ? page.pageInfo.startCursor : undefined
  } while (before)
  await eventually(() => {
    const shown = screen.messages(chatId)!.map(({ id, text }) => ({ id, text }))
    assert.ok(isDeepStrictEqual(shown, expected.slice(-shown.length)), `${shown.length} of ${expected.length} shown`)
    return shown
  }, 60_000)
  return screen.messages(chatId)!.length
}

for (const [name, openScreen] of Object.entries(screens)) {
  suite(name, () => {
    test('shows every message of a burst that is larger than a page', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const screen = openScreen(t, bob, await openNetwork(t))
      await screen.followChat(chatId)
      for (const count of [50, 200]) await sendMany(alice, chatId, count, 'burst')
      assert.ok((await expectMessages(screen, alice, chatId)) > 250, 'the whole list is shown')
    })

    test('shows what was sent while the connection was cut', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const network = await openNetwork(t)
      const screen = openScreen(t, bob, network)
      await screen.followInbox()
      await screen.followChat(chatId)
      network.socket.cut()
      await sendMany(alice, chatId, 120, 'missed')
      const title = `Run ${randomUUID()}`
      await alice.ask(CreateChatDocument, { input: { kind: 'GROUP', title, memberIds: [bob.id] } })
      network.socket.restore()
      assert.ok((await expectMessages(screen, alice, chatId)) > 120, 'the whole list is shown')
      await eventually(() => assert.equal(screen.chats()!.length, 2), 20_000)
    })

    test('notices a dead network and shows what was sent meanwhile', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const network = await openNetwork(t)
      const screen = openScreen(t, bob, network)
      await screen.followChat(chatId)
      const { connections } = network.socket
      network.socket.silence()
      await sendMany(alice, chatId, 60, 'meanwhile')
      await eventually(() => assert.ok(network.socket.connections > connections, 'a new connection'), 20_000)
      network.socket.restore()
      assert.ok((await expectMessages(screen, alice, chatId)) > 60, 'the whole list is shown')
    })

    test('keeps the state of an event that is newer than a slow answer', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const { id } = await sendText(alice, chatId, 'first')
      const network = await openNetwork(t)
      const screen = openScreen(t, bob, network)
      await screen.followChat(chatId)
      network.http.delay = 1_000
      const answer = screen.refetch(chatId)
      // The server has answered before the edit: it passes the answer to the proxy within the delay.
      await eventually(() => assert.ok(network.http.delayed > 0, 'an answer is under way'))
      await alice.ask(EditMessageDocument, { input: { messageId: id, text: 'edited' } })
      await sendText(alice, chatId, 'second')
      await answer
      await expectMessages(screen, alice, chatId)
      assert.deepEqual(screen.messages(chatId)!.map(({ text }) => text).filter(Boolean), ['edited', 'second'])
    })

    test('loads the chat again after a reset of its feed', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const network = await openNetwork(t)
      const screen = openScreen(t, bob, network)
      await screen.followChat(chatId)
      network.socket.cut()
      await alice.ask(RemoveMemberDocument, { input: { chatId, userId: bob.id } })
      await sendMany(alice, chatId, 3, 'while Bob is away')
      await alice.ask(AddMembersDocument, { input: { chatId, userIds: [bob.id] } })
      network.socket.restore()
      await eventually(() => assert.deepEqual(screen.states.slice(-3), ['live', 'loading', 'live']), 20_000)
      await sendText(alice, chatId, 'welcome back')
      await expectMessages(screen, bob, chatId)
    })

    test('reports the end of the membership, and removes the chat from the list', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const screen = openScreen(t, bob, await openNetwork(t))
      await screen.followInbox()
      await screen.followChat(chatId)
      await alice.ask(RemoveMemberDocument, { input: { chatId, userId: bob.id } })
      await eventually(() => {
        assert.equal(screen.states.at(-1), 'ended')
        assert.deepEqual(screen.chats(), [])
      })
    })

    test('orders the list of chats by activity', async (t) => {
      const { alice, bob, chatId } = await createGroup()
      const screen = openScreen(t, bob, await openNetwork(t))
      await screen.followInbox()
      const input: CreateChatInput = { kind: 'GROUP', title: 'Run', memberIds: [bob.id] }
      const other = (await alice.ask(CreateChatDocument, { input })).createChat!.chat.id
      await sendText(alice, other, 'in the new chat')
      await sendText(alice, chatId, 'in the old chat')
      const shown = () => screen.chats()!.map(({ id, lastMessage }) => [id, lastMessage?.text])
      await eventually(() => assert.deepEqual(shown(), [[chatId, 'in the old chat'], [other, 'in the new chat']]))
    })
  })
}

// ---------------------------------------------------------------- Apollo Client

test('Apollo Client: a second subscription to the same feed catches up too', async (t) => {
  const { bob, chatId } = await createGroup()
  const client = createApollo(httpUrl, async () => bob.token, openTestSocket(t, bob))
  t.after(() => client.stop())
  const caughtUp: number[] = []
  for (const n of [1, 2]) {
    const context = { queryDeduplication: false }
    const events = client.subscribe({ query: ChatEventsDocument, variables: { chatId }, context })
    const subscription = events.subscribe(({ data }) => {
      if (data?.chatFeed.__typename === 'FeedCaughtUp') caughtUp.push(n)
    })
    t.after(() => subscription.unsubscribe())
    await eventually(() => assert.equal(caughtUp.at(-1), n))
  }
})

test('Apollo Client: lists with different arguments are apart, and nodes and edges are the same list', async (t) => {
  const { alice, bob, chatId } = await createGroup()
  await sendMany(alice, chatId, 40, 'message')
  const client = createApollo(httpUrl, async () => bob.token, openTestSocket(t, bob))
  t.after(() => client.stop())
  const query = (source: string, fetchPolicy: 'network-only' | 'cache-only' = 'network-only') =>
    client.query({ query: gql(source), fetchPolicy }).then(({ data }) => data as any)
  const latest = await query(`{ chat(id: "${chatId}") { id messages(last: 10) { edges { cursor node { id } } } } }`)
  const ids = latest.chat.messages.edges.map((edge: any) => edge.node.id)
  const all = await alice.ask(OpenChatDocument, { chatId, last: 100 })
  const early = all.chat!.messages.edges[5]!.node.id
  const around = await query(`{ chat(id: "${chatId}") { id messages(around: "${early}", last: 3) { nodes { id } } } }`)
  assert.equal(around.chat.messages.nodes.length, 3)
  assert.equal(around.chat.messages.nodes[1].id, early)
  // The same list by its nodes, from the cache.
  const nodes = await query(`{ chat(id: "${chatId}") { id messages(last: 10) { nodes { id } } } }`, 'cache-only')
  assert.deepEqual(nodes.chat.messages.nodes.map(({ id }: Item) => id), ids)
  // Pages queried by nodes extend the list that was queried by edges.
  const [first] = latest.chat.messages.edges
  await query(`{ chat(id: "${chatId}") { id messages(last: 5, before: "${first.cursor}") { nodes { id } pageInfo { startCursor } } } }`)
  const longer = await query(`{ chat(id: "${chatId}") { id messages(last: 10) { nodes { id } } } }`, 'cache-only')
  assert.deepEqual(longer.chat.messages.nodes.slice(5).map(({ id }: Item) => id), ids)
  assert.equal(longer.chat.messages.nodes.length, 15)
  const members = await query(`{ chat(id: "${chatId}") { id members(first: 10) { nodes { id } } } }`)
  const owners = await query(`{ chat(id: "${chatId}") { id members(first: 10, roles: [OWNER]) { nodes { id } } } }`)
  assert.deepEqual([members.chat.members.nodes.length, owners.chat.members.nodes.length], [2, 1])
})

// ---------------------------------------------------------------- urql

test('urql: connections without arguments have data, and host objects of different types are apart', async (t) => {
  const { alice, bob, chatId } = await createGroup()
  await sendMany(alice, chatId, 3, 'message')
  const host = createUser(bob.org, 'Host', ['chat.view', 'organization.admin'])
  for (const type of ['order', 'invoice']) {
    const input = { resource: { type, id: '1' }, title: type, memberIds: [bob.id] }
    await host.ask(EnsureResourceChatDocument, { input })
  }
  const client = createUrql(httpUrl, async () => bob.token, openTestSocket(t, bob))
  const source = `{ chat(id: "${chatId}") { id messages { nodes { id } } pinnedMessages { nodes { id } } members { nodes { id } } }
    chats { nodes { id resource { type id } } } }`
  const { data, error } = await client.query(source, {}).toPromise()
  assert.equal(error, undefined)
  assert.ok(data.chat.messages.nodes.length >= 3, 'messages')
  assert.deepEqual([data.chat.pinnedMessages.nodes.length, data.chat.members.nodes.length], [0, 2])
  const resources = data.chats.nodes.map((chat: any) => chat.resource?.type).filter(Boolean)
  assert.deepEqual(resources.sort(), ['invoice', 'order'])
})

// ---------------------------------------------------------------- graphql-ws

test('every feed resumes after its last event', async (t) => {
  const { alice, bob, chatId } = await createGroup()
  const proxy = await Proxy.open(socketUrl)
  t.after(() => proxy.close())
  const started = await alice.ask(StartCallDocument, { input: { chatId, kind: 'AUDIO', deviceId: 'laptop' } })
  const callId = started.startCall!.call.id
  const client = openTestSocket(t, bob, proxy.url)
  const feeds = {
    chatFeed: 'subscription($after: String, $id: ID!) { chatFeed(chatId: $id, after: $after) { __typename ... on FeedEvent { cursor } } }',
    inboxFeed: 'subscription($after: String) { inboxFeed(after: $after) { __typename ... on FeedEvent { cursor } } }',
    callFeed: 'subscription($after: String, $id: ID!) { feed: callFeed(callId: $id, after: $after) { __typename ... on FeedEvent { cursor } } }',
  }
  const events: Record<string, string[]> = { chatFeed: [], inboxFeed: [], callFeed: [] }
  for (const [name, query] of Object.entries(feeds)) {
    const id = name === 'chatFeed' ? chatId : callId
    const variables = name === 'inboxFeed' ? {} : { id }
    const next = ({ data }: any) => data && events[name]!.push((Object.values(data)[0] as any).__typename)
    const unsubscribe = client.subscribe({ query, variables }, { next, error: console.error, complete() {} })
    t.after(unsubscribe)
  }
  const caughtUp = () => Object.values(events).map((list) => list.filter((type) => type === 'FeedCaughtUp').length)
  await eventually(() => assert.deepEqual(caughtUp(), [1, 1, 1]))
  proxy.cut()
  for (const list of Object.values(events)) list.length = 0
  await sendText(alice, chatId, 'missed')
  await alice.ask(MarkReadDocument, { input: { chatId } })
  proxy.restore()
  await eventually(() => assert.deepEqual(caughtUp(), [1, 1, 1]), 20_000)
  assert.ok(events.chatFeed!.includes('MessageUpserted'), 'the chat feed delivers the missed message')
  assert.ok(events.inboxFeed!.includes('ChatUpserted'), 'the inbox feed delivers the missed change')
  // A feed that starts anew would begin with the call.
  assert.ok(!events.callFeed!.includes('CallUpserted'), 'the call feed does not start anew')
})

test('the feed of the README goes on after its connection was cut', async (t) => {
  const { alice, bob, chatId } = await createGroup()
  const proxy = await Proxy.open(socketUrl)
  t.after(() => proxy.close())
  const cwd = new URL('.', import.meta.url)
  const feed = spawn(process.execPath, ['--import', 'tsx', 'recipes/feed.ts', proxy.url, bob.token, chatId], { cwd })
  t.after(() => feed.kill())
  const lines: string[] = []
  createInterface(feed.stdout).on('line', (line) => lines.push(line))
  const count = (text: string) => lines.filter((line) => line.includes(`"text":"${text}"`)).length
  await eventually(() => assert.ok(lines.some((line) => line.includes('FeedCaughtUp')), 'caught up'), 30_000)
  await sendText(alice, chatId, 'before')
  await eventually(() => assert.equal(count('before'), 1))
  proxy.cut()
  await sendText(alice, chatId, 'meanwhile')
  proxy.restore()
  await eventually(() => assert.equal(count('meanwhile'), 1), 30_000)
  await alice.ask(LeaveChatDocument, { input: { chatId } })
  assert.equal(count('before'), 1)
})
