// apollo-feeds.ts
import type { ApolloClient, Reference } from '@apollo/client'
import type { StoredList } from './apollo.ts'
import { type FeedState, follow } from './follow.ts'
import {
  ChatEventsDocument,
  type ChatItemFragment,
  InboxEventsDocument,
  type MessageItemFragment,
  OpenChatDocument,
  OpenInboxDocument,
} from './operations.ts'

type Client = ApolloClient

/** Keeps a chat up to date that `useQuery(OpenChatDocument, { variables: { chatId } })` shows. */
export function followChat(client: Client, chatId: string, onState: (state: FeedState) => void) {
  return follow(
    {
      load: async () => {
        const options = { query: OpenChatDocument, variables: { chatId }, fetchPolicy: 'network-only' } as const
        return (await client.query(options)).data?.chat?.feedCursor
      },
      subscribe: (after, sink) => {
        const variables = { chatId, after }
        // Without this context, a second subscription would join the first one and miss its FeedCaughtUp.
        const context = { queryDeduplication: false }
        const events = client.subscribe({ query: ChatEventsDocument, variables, context })
        const subscription = events.subscribe({
          next: ({ data, error }) => {
            const event = data?.chatFeed
            if (error || !event) return sink.end(error)
            if (event.__typename === 'MessageUpserted' && event.message.inChat) addMessage(client, chatId, event.messageEdge)
            if (event.__typename === 'MemberRemoved') client.cache.evict({ id: `ChatMember:${event.memberId}` })
            sink.next(event)
          },
          error: sink.end,
        })
        return () => subscription.unsubscribe()
      },
    },
    onState,
  )
}

/** Keeps the list of chats up to date that `useQuery(OpenInboxDocument)` shows. */
export function followInbox(client: Client, onState: (state: FeedState) => void) {
  return follow(
    {
      load: async () => {
        const { data } = await client.query({ query: OpenInboxDocument, fetchPolicy: 'network-only' })
        return data?.viewer.inboxCursor
      },
      subscribe: (after, sink) => {
        const context = { queryDeduplication: false }
        const events = client.subscribe({ query: InboxEventsDocument, variables: { after }, context })
        const subscription = events.subscribe({
          next: ({ data, error }) => {
            const event = data?.inboxFeed
            if (error || !event) return sink.end(error)
            if (event.__typename === 'ChatUpserted') moveChat(client, event.chat)
            if (event.__typename === 'ChatRemoved') client.cache.evict({ id: `Chat:${event.chatId}` })
            sink.next(event)
          },
          error: sink.end,
        })
        return () => subscription.unsubscribe()
      },
    },
    onState,
  )
}

/** Adds a message to the list that reaches the newest message, in the order of `seq`. */
function addMessage({ cache }: Client, chatId: string, edge: { cursor: string; node: MessageItemFragment }) {
  cache.modify<{ messages: StoredList }>({
    id: `Chat:${chatId}`,
    fields: {
      messages(list, { storeFieldName, readField, toReference }) {
        const stored = list as StoredList
        const node = toReference({ __typename: 'Message', id: edge.node.id })
        if (storeFieldName !== 'messages:{}' || stored.pageInfo?.hasNextPage || !node) return list
        const seq = (message: Reference) => readField<number>('seq', message) ?? 0
        const first = stored.edges[0]
        const isKnown = stored.edges.some((known) => known.node.__ref === node.__ref)
        // A change of a message before the first page adds nothing to the list.
        const isOlder = first && seq(node) < seq(first.node) && stored.pageInfo?.hasPreviousPage
        if (isKnown || isOlder) return list
        const edges = [...stored.edges, { __typename: 'MessageEdge', cursor: edge.cursor, node }]
        edges.sort((left, right) => seq(left.node) - seq(right.node))
        return { ...stored, edges, pageInfo: { ...stored.pageInfo, endCursor: edges.at(-1)?.cursor } }
      },
    },
  })
}

/** Moves a chat to its position in the list of chats, newest activity first, or adds it. */
function moveChat({ cache }: Client, chat: ChatItemFragment) {
  cache.modify<{ chats: StoredList }>({
    fields: {
      chats(list, { storeFieldName, readField, toReference }) {
        const stored = list as StoredList
        const node = toReference({ __typename: 'Chat', id: chat.id })
        if (storeFieldName !== 'chats:{}' || !node) return list
        const activity = (chat: Reference) => readField<string>('lastActivityAt', chat) ?? ''
        const last = stored.edges.at(-1)
        const isKnown = stored.edges.some((known) => known.node.__ref === node.__ref)
        if (!isKnown && last && activity(node) < activity(last.node) && stored.pageInfo?.hasNextPage) return list
        const edges = isKnown ? [...stored.edges] : [...stored.edges, { node }]
        return { ...stored, edges: edges.sort((left, right) => (activity(left.node) < activity(right.node) ? 1 : -1)) }
      },
    },
  })
}
