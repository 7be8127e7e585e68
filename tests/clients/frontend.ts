// A front end without a screen: a list of chats, a window for each chat, and the code that keeps both up to date.
//
// All data are read from urql's graphcache by two queries, ChatList and ChatWindow. One feed per chat, ChatChanges,
// delivers changes; it selects the fragments of these queries (operations/frontend.graphql), so the cache updates each
// object by its id. No code here merges, counts, inserts or removes messages. The remaining tasks are:
//
//  - to resume a feed from its last cursor after a reconnect: `FeedConnection`;
//  - to repeat a query in the few cases in which a feed cannot contain the new data: `#handleEvent`;
//  - to order the results of queries and feeds, which arrive over different connections: `EventQueue`;
//  - to detect new chats: `#findNewChats`.

import {
  Client,
  type CombinedError,
  createRequest,
  type Exchange,
  fetchExchange,
  type GraphQLRequest,
  mapExchange,
  type OperationResult,
  subscriptionExchange,
  type SubscriptionOperation,
} from '@urql/core'
import { cacheExchange } from '@urql/exchange-graphcache'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { buildClientSchema, getIntrospectionQuery, type IntrospectionQuery, isObjectType } from 'graphql'
import { createClient } from 'graphql-ws'
import { WebSocket } from 'ws'
import {
  ChatChangesDocument,
  type ChatChangesSubscription,
  ChatIdsDocument,
  ChatListDocument,
  type ChatListQuery,
  ChatWindowDocument,
  type ChatWindowQuery,
  MessageAnywhereDocument,
} from './generated/operations.ts'
import { httpUrl, post, socketUrl, type User } from './helpers.ts'

type Variables = Record<string, any>

/** The interval of queries for new chats. An application would use about ten seconds. */
const CHAT_POLL_INTERVAL = 250

/** The delay before a failed query is repeated. */
const RETRY_DELAY = 100

export class FrontEnd {
  readonly #events = new EventQueue()
  readonly #connection: FeedConnection
  readonly #client: Client
  readonly #sender: Client
  readonly #lists: WatchedQuery<ChatListQuery, { archived: boolean }>[]
  readonly #chats = new Map<string, Chat>()
  readonly #subscriptions: Subscription[] = []
  /** The number of requests for each query. */
  readonly requests: Record<string, number> = {}

  static async open(user: User) {
    const { data } = await post(user.headers, { query: getIntrospectionQuery() })
    return new FrontEnd(user, data as IntrospectionQuery)
  }

  private constructor(user: User, schema: IntrospectionQuery) {
    this.#connection = new FeedConnection(user, this.#events)
    const http = { url: httpUrl, preferGetMethod: false, fetchOptions: { headers: user.headers } } as const
    const cache = cacheExchange({ schema, keys: keys(schema) })
    this.#client = new Client({
      ...http,
      exchanges: [
        cache,
        this.#trackQueries,
        fetchExchange,
        subscriptionExchange({ forwardSubscription: this.#connection.subscribe }),
      ],
    })
    // Mutations bypass the cache. Their effects arrive by the feed, as for all other members; a response that arrived
    // after a newer event would overwrite newer data. (An application that shows a message while it is being sent
    // replaces it when the feed delivers a message with its nonce.)
    this.#sender = new Client({ ...http, exchanges: [fetchExchange] })

    const list = (archived: boolean) =>
      new WatchedQuery(this.#client, this.#events, ChatListDocument, { archived }, () => this.#updateFeeds())
    this.#lists = [list(false), list(true)]
    const allMessages = this.#client.subscription(MessageAnywhereDocument, {})
    this.#subscriptions.push(
      ...this.#lists,
      allMessages.subscribe(({ data }) => {
        if (data && !this.#chats.has(data.messageAdded.chat.id)) void this.#findNewChats()
      }),
    )
    const poll = setInterval(() => void this.#findNewChats(), CHAT_POLL_INTERVAL)
    this.#subscriptions.push({ unsubscribe: () => clearInterval(poll) })
  }

  // -------------------------------------------------------------- data

  /** Returns the chats and the archived chats; undefined before both are loaded. */
  list() {
    const lists = this.#lists.map((list) => list.data())
    return lists.every((list) => list !== undefined) ? sortedChats(lists) : undefined
  }

  window(chatId: string) {
    return this.#chats.get(chatId)?.window?.data()
  }

  // -------------------------------------------------------------- actions

  async mutate<T, V>(mutation: Document<T, V>, variables: V): Promise<T> {
    return dataOf(await this.#sender.mutation(mutation as Document<T, Variables>, variables as Variables).toPromise())!
  }

  /** Drops the connection like a lost network. It reconnects automatically, not before `until`. */
  dropConnection(until: Promise<void> = Promise.resolve()) {
    this.#connection.drop(until)
  }

  close() {
    for (const subscription of this.#subscriptions) subscription.unsubscribe()
    for (const id of this.#chats.keys()) this.#closeFeed(id)
    this.#connection.close()
  }

  // -------------------------------------------------------------- updates

  /** Opens a feed for each chat in the lists, and closes all other feeds. */
  #updateFeeds() {
    const lists = this.list()
    if (!lists) return
    const ids = new Set([...lists.chats, ...lists.archived].map(({ id }) => id))
    for (const id of this.#chats.keys()) if (!ids.has(id)) this.#closeFeed(id)
    for (const id of ids) if (!this.#chats.has(id)) this.#openFeed(id)
  }

  #refreshLists() {
    for (const list of this.#lists) list.refresh()
  }

  #openFeed(chatId: string) {
    // The chat is in the map before the subscription delivers its first event.
    const chat: Chat = { feed: { unsubscribe() {} } }
    this.#chats.set(chatId, chat)
    chat.feed = this.#client.subscription(ChatChangesDocument, { chatId }).subscribe(({ data, error }) => {
      if (this.#chats.get(chatId) !== chat) return
      if (error) this.#removeChat(chatId)
      else if (data) this.#handleEvent(chatId, data.chatFeed)
    })
  }

  /** Handles an event that the cache has already processed; most events need nothing else. */
  #handleEvent(chatId: string, event: ChatChangesSubscription['chatFeed']) {
    const chat = this.#chats.get(chatId)!
    switch (event.__typename) {
      case 'FeedCaughtUp':
        // The window is queried after its feed has started, so that no change is missed between them. The window has
        // all fields of the list's row, so its response also updates a stale row.
        if (!chat.window) chat.window = new WatchedQuery(this.#client, this.#events, ChatWindowDocument, { chatId })
        break
      case 'FeedReset':
        // The feed missed more events than it replays, and continues from its new cursor.
        if (chat.window) chat.window.refresh()
        else chat.window = new WatchedQuery(this.#client, this.#events, ChatWindowDocument, { chatId })
        break
      case 'MemberRemoved':
        // The event only has ids, and the member's read position affects the status of messages.
        chat.window?.refresh()
        break
    }
    // The window was queried between the viewer's removal and return, both of which the feed has not seen.
    if (chat.window?.data()?.chat === null) chat.window.refresh()
  }

  /** Removes a chat whose feed ended with an error: it was deleted, or the viewer is no longer a member. */
  #removeChat(chatId: string) {
    this.#closeFeed(chatId)
    this.#refreshLists()
  }

  #closeFeed(chatId: string) {
    const { feed, window } = this.#chats.get(chatId)!
    this.#chats.delete(chatId)
    feed.unsubscribe()
    window?.unsubscribe()
  }

  /**
   * Refreshes the lists if there are new chats.
   *
   * The chat feeds don't report them. A message in an unlisted chat indicates one; a direct chat starts without a
   * message, so the front end also polls. (`inboxFeed` reports new chats; this front end does not use it.)
   */
  async #findNewChats() {
    const queryIds = (archived: boolean) => this.#sender.query(ChatIdsDocument, { archived }).toPromise()
    const results = await Promise.all([queryIds(false), queryIds(true)])
    if (results.some(({ error }) => error)) return
    const ids = new Set(results.flatMap(({ data }) => data!.chats.nodes).map(({ id }) => id))
    const isCurrent = ids.size === this.#chats.size && [...ids].every((id) => this.#chats.has(id))
    if (!isCurrent) this.#refreshLists()
  }

  #trackQueries: Exchange = (input) =>
    mapExchange({
      onOperation: ({ kind, key, query }) => {
        if (kind !== 'query') return
        const name = query.definitions.flatMap((part) => (part.kind === 'OperationDefinition' ? part.name!.value : []))[0]!
        this.requests[name] = (this.requests[name] ?? 0) + 1
        this.#events.queryStarted(key)
      },
      onResult: ({ operation }) => {
        if (operation.kind === 'query') this.#events.queryFinished(operation.key)
      },
    })(input)
}

/**
 * Holds back events while a query is pending, and then delivers them in order. Otherwise a response that was created
 * before an event and arrives after it would overwrite newer data, possibly without a later event that corrects them.
 * The reverse order is harmless: if the response is newer than the events, the last of them has the same data.
 */
class EventQueue {
  readonly #pendingQueries = new Set<number>()
  readonly #events: (() => void)[] = []
  #isDelivering = false

  /** Records that a query with this key is pending. */
  queryStarted(key: number) {
    this.#pendingQueries.add(key)
  }

  isPending(key: number) {
    return this.#pendingQueries.has(key)
  }

  /** Records that the query has a result, or was cancelled. */
  queryFinished(key: number) {
    this.#pendingQueries.delete(key)
    void this.#deliver()
  }

  push(event: () => void) {
    this.#events.push(event)
    void this.#deliver()
  }

  async #deliver() {
    if (this.#isDelivering) return
    this.#isDelivering = true
    for (;;) {
      // In the next task a response is in the cache, and a query that an event caused has been sent.
      await nextTask()
      if (this.#pendingQueries.size > 0) break
      const event = this.#events.shift()
      if (!event) break
      event()
    }
    this.#isDelivering = false
  }
}

const nextTask = () => new Promise((resolve) => setTimeout(resolve))

type Subscription = { unsubscribe(): void }

type Chat = { feed: Subscription; window?: WatchedQuery<ChatWindowQuery, { chatId: string }> }

/** A query whose data follow the cache, like those of a mounted component. */
class WatchedQuery<T, V extends Variables> {
  readonly #client: Client
  readonly #events: EventQueue
  readonly #request: GraphQLRequest<T, V>
  #data: T | undefined
  readonly unsubscribe: () => void

  constructor(client: Client, events: EventQueue, query: Document<T, V>, variables: V, changed = () => {}) {
    this.#client = client
    this.#events = events
    this.#request = createRequest(query, variables)
    // Cached data are used at once and queried again, because no feed has kept them up to date until now.
    const source = client.executeQuery<T, V>(this.#request, { requestPolicy: 'cache-and-network' })
    const { unsubscribe } = source.subscribe(({ data, error }) => {
      // After an error (a busy server, a chat deleted during the query) the previous data remain.
      if (error) setTimeout(() => this.refresh(), RETRY_DELAY)
      else if (data) this.#data = data
      // Deferred, because a cached result arrives during the constructor.
      queueMicrotask(changed)
    })
    this.unsubscribe = () => {
      unsubscribe()
      events.queryFinished(this.#request.key)
    }
  }

  /** Returns the current data; undefined before the first response. */
  data() {
    return this.#data
  }

  refresh() {
    if (this.#events.isPending(this.#request.key)) return
    const operation = this.#client.createRequestOperation('query', this.#request, { requestPolicy: 'network-only' })
    this.#client.reexecuteOperation(operation)
  }
}

/** The connection of all feeds, which reconnects and resumes them. */
class FeedConnection {
  readonly #client
  #socket: WebSocket | undefined
  readonly #events: EventQueue
  #reconnectAllowed = Promise.resolve()

  constructor(user: User, events: EventQueue) {
    this.#events = events
    this.#client = createClient({
      url: socketUrl,
      // A function, because a reconnect needs a token that is still valid.
      connectionParams: () => ({ Authorization: `Bearer ${user.token}` }),
      webSocketImpl: WebSocket,
      retryAttempts: Infinity,
      shouldRetry: () => true,
      // An application uses an exponential backoff.
      retryWait: () => this.#reconnectAllowed,
      on: { opened: (socket) => void (this.#socket = socket as WebSocket) },
    })
  }

  /** For urql's subscriptionExchange. */
  subscribe = ({ query, variables }: Pick<SubscriptionOperation, 'query' | 'variables'>) => ({
    subscribe: (sink: Sink) => {
      // After a reconnect graphql-ws sends this same object again, so the feed resumes from the cursor stored in it.
      const payload = { query: query!, variables: { ...variables } as Variables }
      const next = (result: any) => {
        const cursor = result.data?.chatFeed?.cursor
        if (cursor) payload.variables.after = cursor
        this.#events.push(() => sink.next(result))
      }
      const error = (errors: any) => this.#events.push(() => sink.error(errors))
      const complete = () => this.#events.push(() => sink.complete())
      return { unsubscribe: this.#client.subscribe<any>(payload, { next, error, complete }) }
    },
  })

  drop(until: Promise<void>) {
    this.#reconnectAllowed = until
    this.#socket?.terminate()
  }

  close() {
    void this.#client.dispose()
    this.#socket?.terminate()
  }
}

type Sink = { next(result: any): void; error(error: any): void; complete(): void }

/** Returns the keys for graphcache: types with the interface Node have their id, and all others are embedded. */
function keys(schema: IntrospectionQuery) {
  const types = Object.values(buildClientSchema(schema).getTypeMap()).filter(isObjectType)
  const embedded = types.filter((type) => !type.getInterfaces().some(({ name }) => name === 'Node'))
  return Object.fromEntries(embedded.map(({ name }) => [name, () => null]))
}

function dataOf<T>({ data, error }: { data?: T; error?: CombinedError } | OperationResult<T>) {
  if (error) throw error
  return data
}

/**
 * Returns the chats and the archived chats, sorted by their last activity. Feeds update `lastActivityAt` and
 * `archivedAt` in the cache, but not the lists of a query, so both lists are merged and divided again.
 */
export function sortedChats(lists: ChatListQuery[]) {
  const all = [...new Map(lists.flatMap(({ chats }) => chats.nodes).map((chat) => [chat.id, chat])).values()]
  type Row = (typeof all)[number]
  const newestFirst = (a: Row, b: Row) =>
    b.lastActivityAt.localeCompare(a.lastActivityAt) || a.id.localeCompare(b.id)
  all.sort(newestFirst)
  return { chats: all.filter((chat) => !chat.archivedAt), archived: all.filter((chat) => chat.archivedAt) }
}
