// urql with graphcache, its normalised cache, as the recipe configures it.

import { Client, type CombinedError, fetchExchange, subscriptionExchange } from '@urql/core'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { test, type TestContext } from 'node:test'
import type { Client as SocketClient, SubscribePayload } from 'graphql-ws'
import { createSocketClient, expectSilentConsole, httpUrl, type User } from './helpers.ts'
import { type CachingClient, testCachingClient, type Variables } from './caching-client.ts'
import { createCache } from './recipes/urql.ts'

const overSocket = (socket: SocketClient) =>
  subscriptionExchange({
    forwardSubscription: (request) => ({
      subscribe: (sink) => ({ unsubscribe: socket.subscribe(request as SubscribePayload, sink as never) }),
    }),
  })

test('urql', async (t) => {
  expectSilentConsole(t)
  await testCachingClient(t, (user) => urqlFor(t, user))
})

function urqlFor(t: TestContext, user: User): CachingClient {
  const requests: string[] = []
  const client = new Client({
    url: httpUrl,
    preferGetMethod: false,
    fetch: (resource, init) => {
      requests.push(JSON.parse(String(init!.body)).operationName)
      return fetch(resource, init)
    },
    fetchOptions: { headers: user.headers },
    exchanges: [createCache(), fetchExchange, overSocket(createSocketClient(user))],
  })

  const dataOf = <T>(result: { data?: T; error?: CombinedError }) => {
    if (result.error) throw result.error
    return result.data
  }
  return {
    async mutate(mutation, variables) {
      return dataOf(await client.mutation(mutation, variables).toPromise())!
    },
    watch<T, V extends Variables>(query: Document<T, V>, variables: V) {
      let latest: { data?: T; error?: CombinedError } = {}
      const { unsubscribe } = client.query(query, variables).subscribe((result) => void (latest = result))
      t.after(unsubscribe)
      return {
        data: () => dataOf(latest),
        fetchMore: async (more) => dataOf(await client.query(query, { ...variables, ...more }).toPromise()),
      }
    },
    subscribe(query, variables, next) {
      const { unsubscribe } = client.subscription(query, variables).subscribe((result) => next(dataOf(result)!))
      t.after(unsubscribe)
    },
    requestCount: (name) => requests.filter((other) => other === name).length,
  }
}
