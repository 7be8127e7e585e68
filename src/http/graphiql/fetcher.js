import { createGraphiQLFetcher } from '@graphiql/toolkit'
import { createClient } from 'graphql-ws'

const socketUrl = new URL('/graphql', location.href)
socketUrl.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'

/** Queries and mutations by POST, subscriptions over a socket that was opened with the same headers. */
export const fetcher = async (request, options) => {
  const fetch = createGraphiQLFetcher({
    url: '/graphql',
    wsClient: clientFor(options?.headers ?? {}),
    enableIncrementalDelivery: false,
  })
  const answer = await fetch(request, options)
  return Symbol.asyncIterator in answer ? collect(answer) : answer
}

let client = null
let clientHeaders = null

/**
 * A socket keeps the person it was opened for, so other headers need another one. The client before
 * it is lazy: it closes by itself when its last subscription ends.
 */
function clientFor(headers) {
  const key = JSON.stringify(headers)
  if (key !== clientHeaders) {
    // No retries: a refused token or a restarted server is to be seen here, not smoothed over.
    client = createClient({ url: socketUrl.href, connectionParams: headers, retryAttempts: 0 })
    clientHeaders = key
  }
  return client
}

const EVENTS_KEPT = 100

/**
 * GraphiQL shows the last result alone, which for a feed hides all but one of the events that come
 * at once. So each result is the list of those until now. Not a generator: its `return` would wait
 * for the next event, and Stop must stop at once.
 */
function collect(events) {
  const source = events[Symbol.asyncIterator]()
  const newestFirst = []
  return {
    async next() {
      const { done, value } = await source.next()
      if (done) return { done, value }
      newestFirst.unshift(value)
      newestFirst.splice(EVENTS_KEPT)
      return { done, value: { newestFirst } }
    },
    return: () => source.return(),
    [Symbol.asyncIterator]() {
      return this
    },
  }
}
