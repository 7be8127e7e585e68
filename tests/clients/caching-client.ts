// The test of clients with a normalised cache: two users exchange messages, and the client's data must converge to the
// server's state without a reducer. Each client implements `CachingClient`; the test is the same for all.

import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { TestContext } from 'node:test'
import {
  AddReactionDocument,
  ChatDocument,
  ChatFeedDocument,
  ChatsDocument,
  DeleteMessageDocument,
  EditMessageDocument,
  MarkReadDocument,
  MessageAddedDocument,
  MessagesDocument,
  OpenDirectChatDocument,
  RemoveReactionDocument,
  SendMessageDocument,
  ViewerDocument,
} from './generated/operations.ts'
import { createUser, eventually, sendText, until, type User, withoutTypenames } from './helpers.ts'

export type Variables = Record<string, any>

export interface CachingClient {
  mutate<T, V extends Variables>(mutation: Document<T, V>, variables: V): Promise<T>
  /** Watches a query, whose data follow the cache like those of a mounted component. */
  watch<T, V extends Variables>(query: Document<T, V>, variables: NoInfer<V>): Watched<T, V>
  subscribe<T, V extends Variables>(subscription: Document<T, V>, variables: V, next: (data: T) => void): void
  /** Returns the number of requests with this operation. */
  requestCount(name: string): number
}

export interface Watched<T, V> {
  /** Returns the current data; undefined before the first response. */
  data(): T | undefined
  /** Fetches another page with these variables instead of the first ones. */
  fetchMore(variables: Partial<V>): Promise<unknown>
}

const SENT = 45
const PAGE = 20
const OLDER_PAGES = 2

export async function testCachingClient(
  t: TestContext,
  connect: (user: User) => CachingClient | Promise<CachingClient>,
) {
  const org = `org-${randomUUID()}`
  const [alice, bob, carol] = [createUser(org, 'Alice'), createUser(org, 'Bob'), createUser(org, 'Carol')]
  for (const user of [alice, bob, carol]) await user.ask(ViewerDocument)

  const client = await connect(alice)
  const opened = await client.mutate(OpenDirectChatDocument, { userId: bob.id })
  const chatId = opened.openDirectChat!.chat.id

  const send = async (text: string, replyToId?: string) => {
    const input = { chatId, text, replyToId, nonce: randomUUID() }
    return (await client.mutate(SendMessageDocument, { input })).sendMessage!.message
  }

  await t.test('sends many messages', async () => {
    for (let n = 1; n <= SENT; n++) assert.equal((await send(`message ${n}`)).text, `message ${n}`)
  })

  // The data of a chat window: the chat, and its messages from the newest page on.
  const chat = client.watch(ChatDocument, { chatId })
  const list = client.watch(MessagesDocument, { chatId, last: PAGE })
  await until(() => chat.data() !== undefined && list.data() !== undefined)

  const currentChat = () => withoutTypenames(chat.data()!).chat!
  const messages = () => withoutTypenames(list.data()!).chat!.messages
  const find = (text: string) => messages().edges.find(({ node }) => node.text === text)?.node
  const newest = () => messages().edges.at(-1)!.node

  const fetchOlder = async () => {
    const before = messages().pageInfo.startCursor
    await list.fetchMore({ last: PAGE, before })
    await until(() => messages().pageInfo.startCursor !== before)
  }
  const fetchNewer = async () => {
    const after = messages().pageInfo.endCursor
    await list.fetchMore({ last: undefined, first: PAGE, after })
    await until(() => messages().pageInfo.endCursor !== after)
  }

  await t.test('loads older pages until the first message', async () => {
    for (let page = 0; page < OLDER_PAGES; page++) {
      assert.equal(messages().pageInfo.hasPreviousPage, true)
      await fetchOlder()
    }
    assert.equal(messages().pageInfo.hasPreviousPage, false)
    const texts = messages().edges.filter(({ node }) => node.kind === 'TEXT').map(({ node }) => node.text)
    assert.deepEqual(texts, Array.from({ length: SENT }, (_, n) => `message ${n + 1}`))
  })

  // From here on, Bob's changes reach the cache only by these subscriptions.
  const feed: string[] = []
  const added: (string | null)[] = []
  client.subscribe(ChatFeedDocument, { chatId }, ({ chatFeed }) => feed.push(chatFeed.__typename))
  client.subscribe(MessageAddedDocument, { chatId }, ({ messageAdded }) => added.push(messageAdded.text))
  await until(() => feed.includes('FeedCaughtUp'))

  await t.test('receives a message of the other user', async () => {
    await sendText(bob, chatId, 'Hello, Alice!')
    await eventually(() => {
      assert.equal(currentChat().lastMessage!.text, 'Hello, Alice!')
      assert.equal(currentChat().viewerMembership!.unreadCount, 1)
      assert.deepEqual(added, ['Hello, Alice!'])
    })
    // The message is in the cache, and the list receives it with the next page.
    await fetchNewer()
    assert.equal(newest().text, 'Hello, Alice!')
  })

  await t.test('receives edits and reactions of the other user', async () => {
    await bob.ask(EditMessageDocument, { input: { messageId: newest().id, text: 'Hi, Alice!' } })
    await eventually(() => {
      assert.equal(newest().text, 'Hi, Alice!')
      assert.deepEqual(newest().editHistory.nodes.map(({ text }) => text), ['Hello, Alice!'])
    })

    const input = { messageId: find('message 40')!.id, emoji: '👍' }
    await bob.ask(AddReactionDocument, { input })
    await eventually(() =>
      assert.deepEqual(find('message 40')!.reactions, [
        { emoji: '👍', count: 1, viewerReacted: false, users: [{ id: bob.id, name: 'Bob' }] },
      ]),
    )
    await bob.ask(RemoveReactionDocument, { input })
    await eventually(() => assert.deepEqual(find('message 40')!.reactions, []))
  })

  await t.test('edits, deletes, reacts and replies', async () => {
    await client.mutate(EditMessageDocument, { input: { messageId: find('message 3')!.id, text: 'message three' } })
    await eventually(() => assert.notEqual(find('message three')!.editedAt, null))

    const deleted = find('message 4')!.id
    await client.mutate(DeleteMessageDocument, { input: { messageId: deleted } })
    await eventually(() => {
      const tombstone = messages().edges.find(({ node }) => node.id === deleted)!.node
      assert.notEqual(tombstone.deletedAt, null)
      assert.equal(tombstone.text, null)
    })

    const hello = find('Hi, Alice!')!.id
    await client.mutate(AddReactionDocument, { input: { messageId: hello, emoji: '🎉' } })
    await eventually(() => assert.deepEqual(find('Hi, Alice!')!.reactions.map((group) => group.viewerReacted), [true]))

    const reply = await send('And hello to you!', hello)
    assert.equal(reply.replyTo!.text, 'Hi, Alice!')
    await fetchNewer()
    assert.equal(newest().text, 'And hello to you!')
  })

  await t.test('marks as read', async () => {
    const { id } = await sendText(bob, chatId, 'One more thing.')
    await eventually(() => assert.equal(currentChat().viewerMembership!.unreadCount, 1))
    await client.mutate(MarkReadDocument, { input: { chatId, upToMessageId: id } })
    await eventually(() => {
      assert.equal(currentChat().viewerMembership!.unreadCount, 0)
      assert.equal(currentChat().viewerMembership!.lastReadMessage!.id, id)
    })
    await fetchNewer()
  })

  await t.test('has the same state as the server, without repeated requests', async () => {
    await eventually(async () => {
      assert.deepEqual(currentChat(), (await alice.ask(ChatDocument, { chatId })).chat)
      assert.deepEqual(messages(), (await alice.ask(MessagesDocument, { chatId, first: 100 })).chat!.messages)
    })
    assert.equal(client.requestCount('Chat'), 1)
    assert.equal(client.requestCount('Messages'), 1 + OLDER_PAGES + 3)
  })

  await t.test('loads the pages of the chat list', async () => {
    await client.mutate(OpenDirectChatDocument, { userId: carol.id })
    const chats = client.watch(ChatsDocument, { first: 1 })
    await until(() => chats.data() !== undefined)
    const { edges, pageInfo } = chats.data()!.chats
    assert.equal(edges.length, 1)
    await chats.fetchMore({ after: pageInfo.endCursor })
    const all = await alice.ask(ChatsDocument, {})
    await eventually(() => assert.deepEqual(withoutTypenames(chats.data()!), all))
  })
}
