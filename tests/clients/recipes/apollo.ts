// apollo.ts
import {
  ApolloClient,
  ApolloLink,
  type FieldPolicy,
  HttpLink,
  InMemoryCache,
  Observable,
  type Reference,
} from '@apollo/client'
import { SetContextLink } from '@apollo/client/link/context'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { isSubscriptionOperation, relayStylePagination } from '@apollo/client/utilities'
import type { Client as SocketClient } from 'graphql-ws'
import { AnswerOrder } from './order.ts'
import { possibleTypes } from './schema.ts'

/** A connection as the cache stores it. */
export interface StoredList {
  edges: { __typename?: string; cursor?: string; node: Reference }[]
  pageInfo?: { hasPreviousPage?: boolean; hasNextPage?: boolean; startCursor?: string; endCursor?: string }
}

const PAGE_ARGUMENTS = ['first', 'last', 'after', 'before']

/**
 * Policy of a connection. Each combination of the other arguments (`around`, `roles`, `filter`) is a list of its own.
 * Queries may select `nodes` or `edges`: both show the same items.
 */
function list(): FieldPolicy {
  const relay = relayStylePagination((args) => {
    return Object.keys(args ?? {}).filter((name) => args?.[name] != null && !PAGE_ARGUMENTS.includes(name))
  }) as { keyArgs: FieldPolicy['keyArgs']; read: (...args: any[]) => StoredList; merge: (...args: any[]) => StoredList }
  return {
    keyArgs: relay.keyArgs,
    read(existing: StoredList | undefined, options) {
      const page = existing && relay.read(existing, options)
      return page && { ...page, nodes: page.edges.map(({ node }) => node) }
    },
    merge(existing: StoredList | undefined, { nodes, ...incoming }, options) {
      const known = new Map(existing?.edges.map((edge) => [edge.node.__ref, edge]))
      const edges = incoming.edges ?? nodes?.map((node: Reference) => known.get(node.__ref) ?? { node })
      return relay.merge(existing, { ...incoming, edges }, options)
    },
  }
}

export const createCache = () =>
  new InMemoryCache({
    possibleTypes,
    typePolicies: {
      Query: { fields: { chats: list(), users: list(), calls: list(), searchMessages: list(), reports: list() } },
      Chat: { fields: { messages: list(), members: list(), pinnedMessages: list(), bans: list() } },
      Message: { fields: { reactions: { merge: false }, replies: list(), editHistory: list(), readBy: list() } },
      Viewer: { keyFields: [], fields: { notifications: list(), unread: { merge: true } } }, // one per token
      User: { fields: { presence: { merge: true } } },
      ChatResource: { keyFields: false }, // its id is the host application's, unique per type only
      // The next event may have another type.
      Subscription: { fields: { chatFeed: { merge: false }, inboxFeed: { merge: false }, callFeed: { merge: false } } },
    },
  })

export function createApollo(url: string, freshToken: () => Promise<string>, socket: SocketClient) {
  const order = new AnswerOrder()
  const recordAnswers = new ApolloLink((operation, forward) => {
    return new Observable((observer) => {
      const end = order.begin()
      const subscription = forward(operation).subscribe(observer)
      subscription.add(end) // answered, failed or cancelled
      return subscription
    })
  })
  const delayEvents = new ApolloLink((operation, forward) => {
    return new Observable((observer) =>
      forward(operation).subscribe({
        next: (result) => order.deliver(() => observer.next(result)),
        error: (error) => order.deliver(() => observer.error(error)),
        complete: () => order.deliver(() => observer.complete()),
      }),
    )
  })
  const authorise = new SetContextLink(async ({ headers }) => ({
    headers: { ...headers, authorization: `Bearer ${await freshToken()}` },
  }))
  // Without a time-out, a request on a dead network would delay all events.
  const http = new HttpLink({
    uri: url,
    fetch: (resource, init) => {
      const signals = [init?.signal, AbortSignal.timeout(20_000)].filter((signal) => signal != null)
      return fetch(resource, { ...init, signal: AbortSignal.any(signals) })
    },
  })
  return new ApolloClient({
    cache: createCache(),
    link: ApolloLink.split(
      ({ query }) => isSubscriptionOperation(query),
      delayEvents.concat(new GraphQLWsLink(socket)),
      ApolloLink.from([recordAnswers, authorise, http]),
    ),
  })
}
