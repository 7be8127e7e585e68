// socket.ts
import { type Client, createClient } from 'graphql-ws'

export interface SocketOptions {
  url: string
  /** Returns a valid token. Called at each connection: after close code 4403 the client connects with a new token. */
  freshToken: () => Promise<string>
  /** Only for Node.js before version 22: a subclass of `ws` that listens to its event `error`. */
  webSocketImpl?: unknown
  /** The interval between pings, and the times after which a missing answer means that the network is dead. */
  pingInterval?: number
  pongTimeout?: number
  connectTimeout?: number
}

/** Opens a client whose feeds resume after their last event, whatever happens to the connection. */
export function openSocket(options: SocketOptions): Client {
  const { url, freshToken, webSocketImpl } = options
  const { pingInterval = 10_000, pongTimeout = 5_000, connectTimeout = 10_000 } = options
  let deadline: ReturnType<typeof setTimeout> | undefined
  const terminateAfter = (timeout: number) => {
    clearTimeout(deadline)
    // A close without terminate() would wait for an answer of the dead network.
    deadline = setTimeout(() => client.terminate(), timeout)
  }
  const client = createClient({
    url,
    webSocketImpl,
    connectionParams: async () => ({ Authorization: `Bearer ${await freshToken()}` }),
    retryAttempts: Infinity,
    shouldRetry: () => true, // also while the server cannot be reached
    retryWait: (retries) => {
      const longest = Math.min(500 * 2 ** retries, 30_000)
      return new Promise((retry) => setTimeout(retry, longest * (0.5 + Math.random() / 2)))
    },
    keepAlive: pingInterval,
    on: {
      connecting: () => terminateAfter(connectTimeout),
      connected: () => clearTimeout(deadline),
      ping: (received) => {
        if (!received) terminateAfter(pongTimeout)
      },
      pong: (received) => {
        if (received) clearTimeout(deadline)
      },
      closed: () => clearTimeout(deadline),
    },
  })
  return resuming(client)
}

/** Makes each operation with a feed resume after its last event: chatFeed, inboxFeed and callFeed. */
function resuming(client: Client): Client {
  const subscribe: Client['subscribe'] = (payload, sink) => {
    // graphql-ws sends these variables again whenever it connects.
    const variables: Record<string, unknown> = { ...payload.variables }
    return client.subscribe({ ...payload, variables }, {
      next: (result) => {
        const [event] = Object.values(result.data ?? {}) as ({ cursor?: unknown } | null)[]
        if (typeof event?.cursor === 'string') variables.after = event.cursor
        sink.next(result as never)
      },
      error: (error) => sink.error(error),
      complete: () => sink.complete(),
    })
  }
  return { ...client, subscribe }
}
