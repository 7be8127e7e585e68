// urql.ts
import { Client, type Exchange, fetchExchange, mapExchange, subscriptionExchange } from '@urql/core'
import { type Cache, cacheExchange, type Resolver } from '@urql/exchange-graphcache'
import { relayPagination } from '@urql/exchange-graphcache/extras'
import type { Client as SocketClient, SubscribePayload } from 'graphql-ws'
import { AnswerOrder } from './order.ts'
import { introspection } from './schema.ts'
import {
  type ChatEventsSubscription,
  type InboxEventsSubscription,
  OpenChatDocument,
  OpenInboxDocument,
} from './operations.ts'

// Types without an id are embedded in the object that contains them. The id of a ChatResource is the host
// application's, unique per type only.
const embedded = introspection.__schema.types
  .filter((type) => type.kind === 'OBJECT' && !type.fields.some(({ name }) => name === 'id'))
  .map(({ name }) => name)
  .concat('ChatResource')

/** Joins the pages of a connection. Without any argument, relayPagination finds no page and the data would be null. */
function list(params?: Parameters<typeof relayPagination>[0]): Resolver {
  const join = relayPagination(params)
  return (parent, args, cache, info) => {
    return Object.keys(args).length > 0 ? join(parent, args, cache, info) : cache.resolve(info.parentKey, info.fieldName)
  }
}

export const createCache = () =>
  cacheExchange({
    schema: introspection,
    keys: Object.fromEntries(embedded.map((name) => [name, () => null])),
    resolvers: {
      Query: { chats: list(), users: list(), calls: list(), searchMessages: list(), reports: list() },
      Chat: { messages: list({ mergeMode: 'outwards' }), members: list(), pinnedMessages: list(), bans: list() },
      Message: { replies: list({ mergeMode: 'outwards' }), editHistory: list(), readBy: list() },
      Viewer: { notifications: list() },
    },
    updates: {
      Subscription: {
        chatFeed: ({ chatFeed: event }: Partial<ChatEventsSubscription>, { chatId }, cache) => {
          if (event?.__typename === 'MemberRemoved') cache.invalidate({ __typename: 'ChatMember', id: event.memberId })
          if (event?.__typename === 'MessageUpserted' && event.message.inChat) {
            addMessage(cache, chatId as string, event.messageEdge)
          }
        },
        inboxFeed: ({ inboxFeed: event }: Partial<InboxEventsSubscription>, _args, cache) => {
          if (event?.__typename === 'ChatRemoved') cache.invalidate({ __typename: 'Chat', id: event.chatId })
          if (event?.__typename === 'ChatUpserted') moveChat(cache, event.chat)
        },
      },
    },
  })

type MessageEdge = Extract<ChatEventsSubscription['chatFeed'], { __typename: 'MessageUpserted' }>['messageEdge']
type ChatItem = Extract<InboxEventsSubscription['inboxFeed'], { __typename: 'ChatUpserted' }>['chat']

/** Adds a message to the list that `OpenChat` shows if it reaches the newest message, in the order of `seq`. */
function addMessage(cache: Cache, chatId: string, edge: MessageEdge) {
  cache.updateQuery({ query: OpenChatDocument, variables: { chatId } }, (data) => {
    const messages = data?.chat?.messages
    if (!messages || messages.pageInfo.hasNextPage) return data
    const { seq, id } = edge.node
    const first = messages.edges[0]
    const isOlder = first && seq < first.node.seq && messages.pageInfo.hasPreviousPage
    if (!isOlder && !messages.edges.some(({ node }) => node.id === id)) {
      messages.edges.push(edge)
      messages.edges.sort((left, right) => left.node.seq - right.node.seq)
      messages.pageInfo.endCursor = messages.edges.at(-1)!.cursor
    }
    return data
  })
}

/** Moves a chat to its position in the list that `OpenInbox` shows, newest activity first, or adds it. */
function moveChat(cache: Cache, chat: ChatItem) {
  cache.updateQuery({ query: OpenInboxDocument, variables: {} }, (data) => {
    if (!data) return data
    const { nodes, pageInfo } = data.chats
    const last = nodes.at(-1)
    if (!nodes.some(({ id }) => id === chat.id)) {
      if (last && pageInfo.hasNextPage && chat.lastActivityAt < last.lastActivityAt) return data
      nodes.push(chat)
    }
    nodes.sort((left, right) => (left.lastActivityAt < right.lastActivityAt ? 1 : -1))
    return data
  })
}

export function createUrql(url: string, freshToken: () => Promise<string>, socket: SocketClient) {
  const order = new AnswerOrder()
  const underWay = new Map<number, () => void>()
  const end = (key: number) => {
    underWay.get(key)?.()
    underWay.delete(key)
  }
  const recordAnswers: Exchange = mapExchange({
    onOperation: ({ key, kind }) => {
      end(key)
      if (kind === 'query' || kind === 'mutation') underWay.set(key, order.begin())
    },
    onResult: ({ operation }) => {
      if (operation.kind !== 'subscription') end(operation.key)
    },
  })
  return new Client({
    url,
    preferGetMethod: false,
    exchanges: [
      createCache(),
      recordAnswers,
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: (request) => ({
          subscribe: (sink) => ({
            unsubscribe: socket.subscribe(request as SubscribePayload, {
              next: (result) => order.deliver(() => sink.next(result as never)),
              error: (error) => order.deliver(() => sink.error(error)),
              complete: () => order.deliver(() => sink.complete()),
            }),
          }),
        }),
      }),
    ],
    // Without a time-out, a request on a dead network would delay all events.
    fetch: async (resource, init) => {
      const headers = { ...init?.headers, authorization: `Bearer ${await freshToken()}` }
      const signals = [init?.signal, AbortSignal.timeout(20_000)].filter((signal) => signal != null)
      return fetch(resource, { ...init, headers, signal: AbortSignal.any(signals) })
    },
  })
}
