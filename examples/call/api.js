// All operations use one WebSocket, also queries and mutations, so that the server needs no CORS setting.

import { createClient } from 'graphql-ws'

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

export function connect(server, token) {
  let pongTimeout
  const socket = createClient({
    url: new URL('/graphql', server).href.replace(/^http/, 'ws'),
    // Called at each connection; an application returns a valid token here.
    connectionParams: () => ({ Authorization: `Bearer ${token}` }),
    // A participant without a feed for 15 seconds has left the call. So a lost connection is detected soon, and retried
    // soon, also without a network, which a browser reports like any other error.
    keepAlive: 5_000,
    on: {
      ping: (received) => received || (pongTimeout = setTimeout(() => socket.terminate(), 3_000)),
      pong: (received) => received && clearTimeout(pongTimeout),
      closed: () => clearTimeout(pongTimeout),
    },
    retryAttempts: Infinity,
    retryWait: (retries) => sleep(Math.min(250 * 2 ** retries, 3_000) * (0.5 + Math.random())),
    shouldRetry: () => true,
  })

  /** Returns the result of a query or mutation with one field. After a rate limit error it retries in time. */
  async function ask(query, variables) {
    const { data, errors } = await new Promise((next, reject) => {
      const error = (reason) => (Array.isArray(reason) ? next({ errors: reason }) : reject(reason))
      socket.subscribe({ query, variables }, { next, error, complete() {} })
    })
    if (!errors) return Object.values(data)[0]
    const [{ message, extensions }] = errors
    if (!extensions?.retryAfterMs) throw Object.assign(new Error(message), { code: extensions?.code })
    await sleep(extensions.retryAfterMs)
    return ask(query, variables)
  }

  /**
   * Subscribes to a feed, handles its events one after the other, and returns a function that unsubscribes. After a
   * reconnect, graphql-ws subscribes with the current variables, so the feed resumes after its last event. `ended()` is
   * called when the feed has ended.
   */
  function subscribe(query, variables, handle, ended = () => {}) {
    let handled = Promise.resolve()
    const then = (next) => void (handled = handled.then(next).catch(console.error))
    return socket.subscribe({ query, variables }, {
      next({ data, errors }) {
        if (!data) return console.warn('feed ended with errors:', errors)
        const [event] = Object.values(data)
        variables.after = event.cursor
        then(() => handle(event))
      },
      error: (errors) => {
        console.warn('feed failed:', errors)
        then(ended)
      },
      complete: () => then(ended),
    })
  }

  return { ask, subscribe }
}
