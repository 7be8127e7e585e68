// feed.ts
import { createClient } from 'graphql-ws'
import WebSocket from 'ws' // browsers and Node.js 22 have their own: leave webSocketImpl out there

const [url = '', token = '', chatId = ''] = process.argv.slice(2)
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  retryAttempts: Infinity,
  shouldRetry: () => true,
})
const query = `subscription($chatId: ID!, $last: Int, $after: String) {
  chatFeed(chatId: $chatId, last: $last, after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on MessageUpserted { change message { id text sender { name } } }
  }
}`
const variables: { chatId: string; last: number; after?: string } = { chatId, last: 20 }
client.subscribe<{ chatFeed: { cursor: string } }>({ query, variables }, {
  next({ data, errors }) {
    console.log(JSON.stringify(data ?? errors))
    if (data) variables.after = data.chatFeed.cursor // after a reconnect, resume from here
  },
  error: console.error,
  complete: () => console.log('the end'),
})
