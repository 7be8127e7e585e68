// Parlor over one WebSocket: queries and mutations too, so that the server needs no CORS setting.

import { createClient } from 'graphql-ws'

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

export function connect(server, token) {
  let silence
  const socket = createClient({
    url: new URL('/graphql', server).href.replace(/^http/, 'ws'),
    // Asked at each connection: an application gives a fresh token here.
    connectionParams: () => ({ Authorization: `Bearer ${token}` }),
    // One whose feed is gone for 15 seconds has left the call. So a lost line is noticed soon, and tried anew soon,
    // also where there is no network, which a browser tells as a mere error.
    keepAlive: 5_000,
    on: {
      ping: (received) => received || (silence = setTimeout(() => socket.terminate(), 3_000)),
      pong: (received) => received && clearTimeout(silence),
      closed: () => clearTimeout(silence),
    },
    retryAttempts: Infinity,
    retryWait: (retries) => sleep(Math.min(250 * 2 ** retries, 3_000) * (0.5 + Math.random())),
    shouldRetry: () => true,
  })

  /** What a query or mutation of one field answers. Where the server asks to come later, it is asked later. */
  async function ask(query, variables) {
    const { data, errors } = await new Promise((next, failed) => {
      const error = (reason) => (Array.isArray(reason) ? next({ errors: reason }) : failed(reason))
      socket.subscribe({ query, variables }, { next, error, complete() {} })
    })
    if (!errors) return Object.values(data)[0]
    const [{ message, extensions }] = errors
    if (!extensions?.retryAfterMs) throw Object.assign(new Error(message), { code: extensions?.code })
    await sleep(extensions.retryAfterMs)
    return ask(query, variables)
  }

  /**
   * Follows a feed, one event after the other, and returns what stops it. After a reconnect it goes on behind its
   * last event: graphql-ws subscribes anew with the variables as they are then.
   */
  function follow(query, variables, handle, ended = () => {}) {
    let handled = Promise.resolve()
    const then = (next) => void (handled = handled.then(next).catch(console.error))
    return socket.subscribe({ query, variables }, {
      next({ data, errors }) {
        if (!data) return console.warn('the end of a feed:', errors)
        const [event] = Object.values(data)
        variables.after = event.cursor
        then(() => handle(event))
      },
      error: () => then(ended),
      complete: () => then(ended),
    })
  }

  return { ask, follow }
}
