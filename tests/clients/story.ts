// Two people talk, and a client with a normalised cache looks on: what it shows must come to be what
// the server holds, with no reducer written for any of it. Each client brings its own few lines of
// how one asks, watches and subscribes; the story is the same for all.

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
import { eventually, person, type Person, say, until, withoutTypenames } from './helpers.ts'

export type Variables = Record<string, any>

export interface CachingClient {
  mutate<T, V extends Variables>(mutation: Document<T, V>, variables: V): Promise<T>
  /** A query that is kept up to date from the cache, as a mounted component's is. */
  watch<T, V extends Variables>(query: Document<T, V>, variables: NoInfer<V>): Watched<T, V>
  subscribe<T, V extends Variables>(subscription: Document<T, V>, variables: V, next: (data: T) => void): void
  /** How often the operation of this name went over the network. */
  timesAsked(name: string): number
}

export interface Watched<T, V> {
  /** What a component would show now; undefined before the first answer. */
  shown(): T | undefined
  /** Asks for another page with these variables instead of the first ones. */
  fetchMore(variables: Partial<V>): Promise<unknown>
}

const SENT = 45
const PAGE = 20
const OLDER_PAGES = 2

export async function twoPeopleTalk(t: TestContext, connect: (who: Person) => CachingClient | Promise<CachingClient>) {
  const org = `org-${randomUUID()}`
  const [alice, bob, carol] = [person(org, 'Alice'), person(org, 'Bob'), person(org, 'Carol')]
  for (const who of [alice, bob, carol]) await who.ask(ViewerDocument)

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

  // The view of a chat: the chat itself, and its messages from the newest page on.
  const chat = client.watch(ChatDocument, { chatId })
  const list = client.watch(MessagesDocument, { chatId, last: PAGE })
  await until(() => chat.shown() !== undefined && list.shown() !== undefined)

  const shownChat = () => withoutTypenames(chat.shown()!).chat!
  const shown = () => withoutTypenames(list.shown()!).chat!.messages
  const find = (text: string) => shown().edges.find(({ node }) => node.text === text)?.node
  const newest = () => shown().edges.at(-1)!.node

  const fetchOlder = async () => {
    const before = shown().pageInfo.startCursor
    await list.fetchMore({ last: PAGE, before })
    await until(() => shown().pageInfo.startCursor !== before)
  }
  const fetchNewer = async () => {
    const after = shown().pageInfo.endCursor
    await list.fetchMore({ last: undefined, first: PAGE, after })
    await until(() => shown().pageInfo.endCursor !== after)
  }

  await t.test('pages back to the start', async () => {
    for (let page = 0; page < OLDER_PAGES; page++) {
      assert.equal(shown().pageInfo.hasPreviousPage, true)
      await fetchOlder()
    }
    assert.equal(shown().pageInfo.hasPreviousPage, false)
    const texts = shown().edges.filter(({ node }) => node.kind === 'TEXT').map(({ node }) => node.text)
    assert.deepEqual(texts, Array.from({ length: SENT }, (_, n) => `message ${n + 1}`))
  })

  // From here on, what Bob does reaches the cache by these alone.
  const feed: string[] = []
  const added: (string | null)[] = []
  client.subscribe(ChatFeedDocument, { chatId }, ({ chatFeed }) => feed.push(chatFeed.__typename))
  client.subscribe(MessageAddedDocument, { chatId }, ({ messageAdded }) => added.push(messageAdded.text))
  await until(() => feed.includes('FeedCaughtUp'))

  await t.test('sees the message of the other, live', async () => {
    await say(bob, chatId, 'Hello, Alice!')
    await eventually(() => {
      assert.equal(shownChat().lastMessage!.text, 'Hello, Alice!')
      assert.equal(shownChat().viewerMembership!.unreadCount, 1)
      assert.deepEqual(added, ['Hello, Alice!'])
    })
    // The message is in the cache; the list gets it as it gets any page.
    await fetchNewer()
    assert.equal(newest().text, 'Hello, Alice!')
  })

  await t.test('sees what the other does to messages, live', async () => {
    await bob.ask(EditMessageDocument, { input: { messageId: newest().id, text: 'Hi, Alice!' } })
    await eventually(() => {
      assert.equal(newest().text, 'Hi, Alice!')
      assert.deepEqual(newest().editHistory.map(({ text }) => text), ['Hello, Alice!'])
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

    const doomed = find('message 4')!.id
    await client.mutate(DeleteMessageDocument, { input: { messageId: doomed } })
    await eventually(() => {
      const tombstone = shown().edges.find(({ node }) => node.id === doomed)!.node
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
    const { id } = await say(bob, chatId, 'One more thing.')
    await eventually(() => assert.equal(shownChat().viewerMembership!.unreadCount, 1))
    await client.mutate(MarkReadDocument, { input: { chatId, upToMessageId: id } })
    await eventually(() => {
      assert.equal(shownChat().viewerMembership!.unreadCount, 0)
      assert.equal(shownChat().viewerMembership!.lastReadMessage!.id, id)
    })
    await fetchNewer()
  })

  await t.test('holds what the server holds, and never had to ask again', async () => {
    await eventually(async () => {
      assert.deepEqual(shownChat(), (await alice.ask(ChatDocument, { chatId })).chat)
      assert.deepEqual(shown(), (await alice.ask(MessagesDocument, { chatId, first: 100 })).chat!.messages)
    })
    assert.equal(client.timesAsked('Chat'), 1)
    assert.equal(client.timesAsked('Messages'), 1 + OLDER_PAGES + 3)
  })

  await t.test('pages through the chats', async () => {
    await client.mutate(OpenDirectChatDocument, { userId: carol.id })
    const chats = client.watch(ChatsDocument, { first: 1 })
    await until(() => chats.shown() !== undefined)
    const { edges, pageInfo } = chats.shown()!.chats
    assert.equal(edges.length, 1)
    await chats.fetchMore({ after: pageInfo.endCursor })
    const all = await alice.ask(ChatsDocument, {})
    await eventually(() => assert.deepEqual(withoutTypenames(chats.shown()!), all))
  })
}
