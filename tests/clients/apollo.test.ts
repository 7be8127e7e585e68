// Apollo Client as an application sets it up: queries by HTTP, subscriptions by graphql-ws, one
// normalised cache. Run under the `development` condition, where Apollo says what it dislikes.

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from '@apollo/client'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { isSubscriptionOperation, relayStylePagination } from '@apollo/client/utilities'
import { __DEV__ } from '@apollo/client/utilities/environment'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { consoleStaysSilent, httpUrl, type Person, possibleTypes, socketOf } from './helpers.ts'
import { type CachingClient, twoPeopleTalk, type Variables } from './story.ts'

const cache = () =>
  new InMemoryCache({
    possibleTypes: possibleTypes(),
    typePolicies: {
      Query: { fields: { chats: relayStylePagination(['filter']) } },
      // There is one viewer, and so it has no id.
      Viewer: { keyFields: [] },
      Chat: { fields: { messages: relayStylePagination() } },
      // Lists of plain values are replaced as a whole,
      Message: { fields: { reactions: { merge: false }, editHistory: { merge: false } } },
      // and so is each event by the next one, which may be of another type.
      Subscription: { fields: { chatFeed: { merge: false } } },
    },
  })

test('Apollo Client', async (t) => {
  assert.ok(__DEV__, 'run under `node -C development`, or Apollo keeps its complaints to itself')
  consoleStaysSilent(t)
  await twoPeopleTalk(t, (who) => apolloFor(t, who))
})

function apolloFor(t: TestContext, who: Person): CachingClient {
  const asked: (string | undefined)[] = []
  const count = new ApolloLink((operation, forward) => {
    asked.push(operation.operationName)
    return forward(operation)
  })
  const http = new HttpLink({ uri: httpUrl, headers: who.headers })
  const socket = new GraphQLWsLink(socketOf(who))
  const client = new ApolloClient({
    link: count.split(({ query }) => isSubscriptionOperation(query), socket, http),
    cache: cache(),
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
        shown() {
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
    timesAsked: (name) => asked.filter((other) => other === name).length,
  }
}
