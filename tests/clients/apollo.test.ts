// Apollo Client with the cache of the recipe: queries over HTTP, subscriptions over graphql-ws, and one normalised
// cache. It runs under the `development` condition, in which Apollo logs problems.

import { ApolloClient, ApolloLink, HttpLink } from '@apollo/client'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { isSubscriptionOperation } from '@apollo/client/utilities'
import { __DEV__ } from '@apollo/client/utilities/environment'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { createSocketClient, expectSilentConsole, httpUrl, type User } from './helpers.ts'
import { type CachingClient, testCachingClient, type Variables } from './caching-client.ts'
import { createCache } from './recipes/apollo.ts'

test('Apollo Client', async (t) => {
  assert.ok(__DEV__, 'run under `node -C development`, otherwise Apollo logs no problems')
  expectSilentConsole(t)
  await testCachingClient(t, (user) => apolloFor(t, user))
})

function apolloFor(t: TestContext, user: User): CachingClient {
  const requests: (string | undefined)[] = []
  const count = new ApolloLink((operation, forward) => {
    requests.push(operation.operationName)
    return forward(operation)
  })
  const http = new HttpLink({ uri: httpUrl, headers: user.headers })
  const socket = new GraphQLWsLink(createSocketClient(user))
  const client = new ApolloClient({
    link: count.split(({ query }) => isSubscriptionOperation(query), socket, http),
    cache: createCache(),
  })
  t.after(() => client.stop())

  return {
    async mutate(mutation, variables) {
      const { data } = await client.mutate({ mutation, variables: variables as never })
      return data!
    },
    watch<T, V extends Variables>(query: Document<T, V>, variables: V) {
      const watched = client.watchQuery({ query, variables })
      const subscription = watched.subscribe({})
      t.after(() => subscription.unsubscribe())
      return {
        data() {
          const { data, dataState, error } = watched.getCurrentResult()
          if (error) throw error
          return dataState === 'complete' ? (data as T) : undefined
        },
        fetchMore: (more) => watched.fetchMore({ variables: more as never }),
      }
    },
    subscribe(query, variables, next) {
      const subscription = client.subscribe({ query, variables }).subscribe(({ data, error }) => {
        if (error) throw error
        next(data!)
      })
      t.after(() => subscription.unsubscribe())
    },
    requestCount: (name) => requests.filter((other) => other === name).length,
  }
}
