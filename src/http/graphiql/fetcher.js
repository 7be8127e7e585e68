import { createGraphiQLFetcher } from '@graphiql/toolkit'
import { createClient } from 'graphql-ws'

const socketUrl = new URL('/graphql', location.href)
socketUrl.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'

/** Sends queries and mutations by POST, and subscriptions over a WebSocket that was opened with the same headers. */
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
 * Returns a WebSocket client for these headers. A socket keeps the user that it was opened for, so other headers need
 * another client. The previous client is lazy: it closes its socket after its last subscription.
 */
function clientFor(headers) {
  const key = JSON.stringify(headers)
  if (key !== clientHeaders) {
    // No retries, so that a rejected token or a restart of the server is visible.
    client = createClient({ url: socketUrl.href, connectionParams: headers, retryAttempts: 0 })
    clientHeaders = key
  }
  return client
}

const EVENTS_KEPT = 100

/**
 * Returns an iterator whose results are lists of the latest events. GraphiQL only shows the last result, which would
 * hide all but one of several events that arrive together. This is not a generator, because its `return` would wait for
 * the next event, and the stop button must work immediately.
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
