// A front end with no screen: a list of chats, a window for each of them, and what keeps both right.
//
// What is shown is read from urql's graphcache, by two queries: ChatList and ChatWindow. What happens
// is told by a feed for each chat, ChatChanges, which selects what happened in the fragments of these
// queries (operations/frontend.graphql). The cache puts each thing in its place by its id; nothing
// here merges, counts, sorts messages in or takes them out. What is left to do is:
//
//  - to go on from the feed's last cursor when the line was cut: `Line`;
//  - to ask a query again in the few cases where the feed can't carry the answer: `#told`;
//  - to let queries and feeds take turns, as they come by different ways: `Turns`;
//  - to notice chats that are new: `#lookForChats`.

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
import { httpUrl, type Person, post, socketUrl } from './helpers.ts'

type Variables = Record<string, any>

/** How often to look whether there are new chats. An application would take some ten seconds. */
const LOOK_EVERY = 250

/** How soon to ask again what could not be answered. */
const RETRY_AFTER = 100

export class FrontEnd {
  readonly #turns = new Turns()
  readonly #line: Line
  readonly #client: Client
  readonly #sender: Client
  readonly #lists: View<ChatListQuery, { archived: boolean }>[]
  readonly #chats = new Map<string, { feed: Stoppable; window?: View<ChatWindowQuery, { chatId: string }> }>()
  readonly #running: Stoppable[] = []
  /** How often each operation was asked over the network. */
  readonly asked: Record<string, number> = {}

  static async open(who: Person) {
    const { data } = await post(who.headers, { query: getIntrospectionQuery() })
    return new FrontEnd(who, data as IntrospectionQuery)
  }

  private constructor(who: Person, schema: IntrospectionQuery) {
    this.#line = new Line(who, this.#turns)
    const http = { url: httpUrl, preferGetMethod: false, fetchOptions: { headers: who.headers } } as const
    const cache = cacheExchange({ schema, keys: keys(schema) })
    this.#client = new Client({
      ...http,
      exchanges: [
        cache,
        this.#notingQueries,
        fetchExchange,
        subscriptionExchange({ forwardSubscription: this.#line.subscribe }),
      ],
    })
    // Mutations go past the cache. Who sent them hears of them by the feed, like all others; an answer
    // that came after a newer event would put the old in the place of the new. (An application that
    // wants to show what it sends at once shows it as "being sent", until the nonce comes back.)
    this.#sender = new Client({ ...http, exchanges: [fetchExchange] })

    const list = (archived: boolean) =>
      new View(this.#client, this.#turns, ChatListDocument, { archived }, () => this.#followTheLists())
    this.#lists = [list(false), list(true)]
    const anywhere = this.#client.subscription(MessageAnywhereDocument, {})
    this.#running.push(
      ...this.#lists,
      anywhere.subscribe(({ data }) => {
        if (data && !this.#chats.has(data.messageAdded.chat.id)) void this.#lookForChats()
      }),
    )
    const look = setInterval(() => void this.#lookForChats(), LOOK_EVERY)
    this.#running.push({ unsubscribe: () => clearInterval(look) })
  }

  // -------------------------------------------------------------- what is shown

  /** The chats, and those that were put away; undefined before both are known. */
  list() {
    const lists = this.#lists.map((list) => list.shown())
    return lists.every((list) => list !== undefined) ? arranged(lists) : undefined
  }

  window(chatId: string) {
    return this.#chats.get(chatId)?.window?.shown()
  }

  // -------------------------------------------------------------- what is done

  async mutate<T, V>(mutation: Document<T, V>, variables: V): Promise<T> {
    return answerOf(await this.#sender.mutation(mutation as Document<T, Variables>, variables as Variables).toPromise())!
  }

  /** Cuts the line, as a lost network does. It comes back by itself, but not before `until`. */
  cut(until: Promise<void> = Promise.resolve()) {
    this.#line.cut(until)
  }

  close() {
    for (const running of this.#running) running.unsubscribe()
    for (const id of this.#chats.keys()) this.#unfollow(id)
    this.#line.close()
  }

  // -------------------------------------------------------------- what keeps it right

  /** One feed for each chat that is listed, and none for others. */
  #followTheLists() {
    const lists = this.list()
    if (!lists) return
    const ids = new Set([...lists.chats, ...lists.archived].map(({ id }) => id))
    for (const id of this.#chats.keys()) if (!ids.has(id)) this.#unfollow(id)
    for (const id of ids) if (!this.#chats.has(id)) this.#follow(id)
  }

  #refreshTheLists() {
    for (const list of this.#lists) list.refresh()
  }

  #follow(chatId: string) {
    // Whatever the source tells at once is told after it is in the map.
    const chat = { feed: { unsubscribe() {} } as Stoppable }
    this.#chats.set(chatId, chat)
    chat.feed = this.#client.subscription(ChatChangesDocument, { chatId }).subscribe(({ data, error }) => {
      if (this.#chats.get(chatId) !== chat) return
      if (error) this.#lose(chatId)
      else if (data) this.#told(chatId, data.chatFeed)
    })
  }

  /** What an event leaves to do once the cache has it: for most of them nothing. */
  #told(chatId: string, event: ChatChangesSubscription['chatFeed']) {
    const chat = this.#chats.get(chatId)!
    switch (event.__typename) {
      case 'FeedCaughtUp':
        // The feed is there first and the window after it, so that nothing falls between. What was
        // listed meanwhile is made good, too: the window has all that the row of the list has.
        if (!chat.window) chat.window = new View(this.#client, this.#turns, ChatWindowDocument, { chatId })
        break
      case 'FeedReset':
        // Too much happened to be told one by one. The feed goes on from its new cursor.
        if (chat.window) chat.window.refresh()
        else chat.window = new View(this.#client, this.#turns, ChatWindowDocument, { chatId })
        break
      case 'MemberRemoved':
        // Tells ids alone; with the member went what they had read.
        chat.window?.refresh()
        break
    }
    // Asked for while the viewer was out of the chat, and in again before the feed noticed anything.
    if (chat.window?.shown()?.chat === null) chat.window.refresh()
  }

  /** A feed that ends with an error is that of a chat which was deleted, or which the viewer is out of. */
  #lose(chatId: string) {
    this.#unfollow(chatId)
    this.#refreshTheLists()
  }

  #unfollow(chatId: string) {
    const { feed, window } = this.#chats.get(chatId)!
    this.#chats.delete(chatId)
    feed.unsubscribe()
    window?.unsubscribe()
  }

  /**
   * No feed tells yet of chats that are new to the viewer: a later one of the server, over all chats,
   * will. Until then a message in a chat that isn't listed is one sign; a direct chat begins without
   * any message, so the front end looks from time to time as well.
   */
  async #lookForChats() {
    const ask = (archived: boolean) => this.#sender.query(ChatIdsDocument, { archived }).toPromise()
    const answers = await Promise.all([ask(false), ask(true)])
    if (answers.some(({ error }) => error)) return
    const ids = new Set(answers.flatMap(({ data }) => data!.chats.nodes).map(({ id }) => id))
    const same = ids.size === this.#chats.size && [...ids].every((id) => this.#chats.has(id))
    if (!same) this.#refreshTheLists()
  }

  #notingQueries: Exchange = (input) =>
    mapExchange({
      onOperation: ({ kind, key, query }) => {
        if (kind !== 'query') return
        const name = query.definitions.flatMap((part) => (part.kind === 'OperationDefinition' ? part.name!.value : []))[0]!
        this.asked[name] = (this.asked[name] ?? 0) + 1
        this.#turns.asks(key)
      },
      onResult: ({ operation }) => {
        if (operation.kind === 'query') this.#turns.answered(operation.key)
      },
    })(input)
}

/**
 * While a query is under way, events wait, and then are told in their order. Otherwise an answer that
 * was made before an event and arrives after it would put the old in the place of the new, and no
 * further event might come to mend it. The other way round no harm is done: if the answer is newer
 * than the events that waited, the last of them has what the answer has.
 */
class Turns {
  readonly #asked = new Set<number>()
  readonly #waiting: (() => void)[] = []
  #telling = false

  /** A query with this key is under way. */
  asks(key: number) {
    this.#asked.add(key)
  }

  isAsked(key: number) {
    return this.#asked.has(key)
  }

  /** The query is answered, or nobody waits for the answer any more. */
  answered(key: number) {
    this.#asked.delete(key)
    void this.#tell()
  }

  tell(event: () => void) {
    this.#waiting.push(event)
    void this.#tell()
  }

  async #tell() {
    if (this.#telling) return
    this.#telling = true
    for (;;) {
      // An answer gets into the cache first; and what an event gives cause to ask is asked before
      // the next one is told.
      await nextTurn()
      if (this.#asked.size > 0) break
      const event = this.#waiting.shift()
      if (!event) break
      event()
    }
    this.#telling = false
  }
}

const nextTurn = () => new Promise((resolve) => setTimeout(resolve))

type Stoppable = { unsubscribe(): void }

/** A query that is kept up to date from the cache, as a mounted component's is. */
class View<T, V extends Variables> {
  readonly #client: Client
  readonly #turns: Turns
  readonly #request: GraphQLRequest<T, V>
  #shown: T | undefined
  readonly unsubscribe: () => void

  constructor(client: Client, turns: Turns, query: Document<T, V>, variables: V, changed = () => {}) {
    this.#client = client
    this.#turns = turns
    this.#request = createRequest(query, variables)
    // What the cache has is shown, and asked for anyway: nobody kept it right until now.
    const source = client.executeQuery<T, V>(this.#request, { requestPolicy: 'cache-and-network' })
    const { unsubscribe } = source.subscribe(({ data, error }) => {
      // What was right a moment ago is better than nothing: a server that is busy, a chat that was
      // deleted while it was asked for.
      if (error) setTimeout(() => this.refresh(), RETRY_AFTER)
      else if (data) this.#shown = data
      // Not before the constructor is done.
      queueMicrotask(changed)
    })
    this.unsubscribe = () => {
      unsubscribe()
      turns.answered(this.#request.key)
    }
  }

  /** What a component would show now; undefined before the first answer. */
  shown() {
    return this.#shown
  }

  refresh() {
    if (this.#turns.isAsked(this.#request.key)) return
    const operation = this.#client.createRequestOperation('query', this.#request, { requestPolicy: 'network-only' })
    this.#client.reexecuteOperation(operation)
  }
}

/** The line on which feeds come in. */
class Line {
  readonly #socket
  #line: WebSocket | undefined
  readonly #turns: Turns
  #mayComeBack = Promise.resolve()

  constructor(who: Person, turns: Turns) {
    this.#turns = turns
    this.#socket = createClient({
      url: socketUrl,
      // A function: a line that comes back needs a token that is still good.
      connectionParams: () => ({ Authorization: `Bearer ${who.token}` }),
      webSocketImpl: WebSocket,
      retryAttempts: Infinity,
      shouldRetry: () => true,
      // An application waits a little, and longer each time.
      retryWait: () => this.#mayComeBack,
      on: { opened: (socket) => void (this.#line = socket as WebSocket) },
    })
  }

  /** For urql's subscriptionExchange. */
  subscribe = ({ query, variables }: Pick<SubscriptionOperation, 'query' | 'variables'>) => ({
    subscribe: (sink: Sink) => {
      // On a new line graphql-ws sends this very object again: with the cursor in it, the feed goes on
      // where it was.
      const payload = { query: query!, variables: { ...variables } as Variables }
      const next = (result: any) => {
        const cursor = result.data?.chatFeed?.cursor
        if (cursor) payload.variables.after = cursor
        this.#turns.tell(() => sink.next(result))
      }
      const error = (errors: any) => this.#turns.tell(() => sink.error(errors))
      const complete = () => this.#turns.tell(() => sink.complete())
      return { unsubscribe: this.#socket.subscribe<any>(payload, { next, error, complete }) }
    },
  })

  cut(until: Promise<void>) {
    this.#mayComeBack = until
    this.#line?.terminate()
  }

  close() {
    void this.#socket.dispose()
    this.#line?.terminate()
  }
}

type Sink = { next(result: any): void; error(error: any): void; complete(): void }

/** graphcache finds a thing again by its id if it is a Node; all else is kept inside of what holds it. */
function keys(schema: IntrospectionQuery) {
  const types = Object.values(buildClientSchema(schema).getTypeMap()).filter(isObjectType)
  const embedded = types.filter((type) => !type.getInterfaces().some(({ name }) => name === 'Node'))
  return Object.fromEntries(embedded.map(({ name }) => [name, () => null]))
}

function answerOf<T>({ data, error }: { data?: T; error?: CombinedError } | OperationResult<T>) {
  if (error) throw error
  return data
}

/**
 * The two lists, newest activity first. A chat changes its place, and is put away and taken back, by
 * what the cache knows of itself; so the lists that the server made are taken as one heap.
 */
export function arranged(lists: ChatListQuery[]) {
  const all = [...new Map(lists.flatMap(({ chats }) => chats.nodes).map((chat) => [chat.id, chat])).values()]
  type Row = (typeof all)[number]
  const newestFirst = (one: Row, other: Row) =>
    other.lastActivityAt.localeCompare(one.lastActivityAt) || one.id.localeCompare(other.id)
  all.sort(newestFirst)
  return { chats: all.filter((chat) => !chat.archivedAt), archived: all.filter((chat) => chat.archivedAt) }
}
