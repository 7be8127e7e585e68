// urql-feeds.ts
import type { Client } from '@urql/core'
import { type FeedState, follow } from './follow.ts'
import { ChatEventsDocument, InboxEventsDocument, OpenChatDocument, OpenInboxDocument } from './operations.ts'

/** Keeps a chat up to date that a query `OpenChatDocument` with the same `chatId` shows. */
export function followChat(client: Client, chatId: string, onState: (state: FeedState) => void) {
  return follow(
    {
      load: async () => {
        const result = await client.query(OpenChatDocument, { chatId }, { requestPolicy: 'network-only' })
        if (result.error) throw result.error
        return result.data?.chat?.feedCursor
      },
      subscribe: (after, sink) => {
        // urql shares a subscription with equal variables: open each feed once, and pass its state on.
        const events = client.subscription(ChatEventsDocument, { chatId, after })
        return events.subscribe(({ data, error }) => {
          if (error || !data) return sink.end(error)
          sink.next(data.chatFeed)
        }).unsubscribe
      },
    },
    onState,
  )
}

/** Keeps the list of chats up to date that a query `OpenInboxDocument` without variables shows. */
export function followInbox(client: Client, onState: (state: FeedState) => void) {
  return follow(
    {
      load: async () => {
        const result = await client.query(OpenInboxDocument, {}, { requestPolicy: 'network-only' })
        if (result.error) throw result.error
        return result.data?.viewer.inboxCursor
      },
      subscribe: (after, sink) => {
        return client.subscription(InboxEventsDocument, { after }).subscribe(({ data, error }) => {
          if (error || !data) return sink.end(error)
          sink.next(data.inboxFeed)
        }).unsubscribe
      },
    },
    onState,
  )
}
