// urql with graphcache, its normalised cache, which is given the server's own introspection.

import { Client, type CombinedError, fetchExchange, subscriptionExchange } from '@urql/core'
import { cacheExchange } from '@urql/exchange-graphcache'
import { relayPagination } from '@urql/exchange-graphcache/extras'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { test, type TestContext } from 'node:test'
import { buildClientSchema, getIntrospectionQuery, type IntrospectionQuery, isObjectType } from 'graphql'
import type { Client as SocketClient, SubscribePayload } from 'graphql-ws'
import { consoleStaysSilent, httpUrl, type Person, post, socketOf } from './helpers.ts'
import { type CachingClient, twoPeopleTalk, type Variables } from './story.ts'

const cache = (schema: IntrospectionQuery) =>
  cacheExchange({
    schema,
    keys: Object.fromEntries(typesWithoutId(schema).map((name) => [name, () => null])),
    resolvers: {
      Query: { chats: relayPagination() },
      // 'outwards': older pages go before the page that was first, newer ones behind it.
      Chat: { messages: relayPagination({ mergeMode: 'outwards' }) },
    },
  })

/** What has no id of its own is kept inside of what holds it. */
function typesWithoutId(schema: IntrospectionQuery) {
  const types = Object.values(buildClientSchema(schema).getTypeMap())
  return types.filter(isObjectType).filter((type) => !('id' in type.getFields())).map(({ name }) => name)
}

const overSocket = (socket: SocketClient) =>
  subscriptionExchange({
    forwardSubscription: (request) => ({
      subscribe: (sink) => ({ unsubscribe: socket.subscribe(request as SubscribePayload, sink as never) }),
    }),
  })

test('urql', async (t) => {
  consoleStaysSilent(t)
  await twoPeopleTalk(t, (who) => urqlFor(t, who))
})

async function urqlFor(t: TestContext, who: Person): Promise<CachingClient> {
  const { data } = await post(who.headers, { query: getIntrospectionQuery() })
  const asked: string[] = []
  const client = new Client({
    url: httpUrl,
    preferGetMethod: false,
    fetch: (resource, init) => {
      asked.push(JSON.parse(String(init!.body)).operationName)
      return fetch(resource, init)
    },
    fetchOptions: { headers: who.headers },
    exchanges: [cache(data as IntrospectionQuery), fetchExchange, overSocket(socketOf(who))],
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
        shown: () => dataOf(latest),
        fetchMore: async (more) => dataOf(await client.query(query, { ...variables, ...more }).toPromise()),
      }
    },
    subscribe(query, variables, next) {
      const { unsubscribe } = client.subscription(query, variables).subscribe((result) => next(dataOf(result)!))
      t.after(unsubscribe)
    },
    timesAsked: (name) => asked.filter((other) => other === name).length,
  }
}
