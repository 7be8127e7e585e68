// Apollo Client as an application sets it up: queries by HTTP, subscriptions by graphql-ws, one
// normalised cache. Two people talk; Alice's cache must come to hold what the server holds, with no
// reducer written for it. Run under the `development` condition, where Apollo says what it dislikes.

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from '@apollo/client'
import { GraphQLWsLink } from '@apollo/client/link/subscriptions'
import { isSubscriptionOperation, relayStylePagination } from '@apollo/client/utilities'
import { __DEV__ } from '@apollo/client/utilities/environment'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import {
  AddReactionDocument,
  ChatDocument,
  ChatFeedDocument,
  ChatsDocument,
  DeleteMessageDocument,
  EditMessageDocument,
  MarkReadDocument,
  MessageAddedDocument,
  MessagesDocument,
  OpenDirectChatDocument,
  RemoveReactionDocument,
  SendMessageDocument,
  ViewerDocument,
} from './generated/operations.ts'
import {
  consoleStaysSilent,
  eventually,
  httpUrl,
  person,
  type Person,
  possibleTypes,
  say,
  socketOf,
  until,
  withoutTypenames,
} from './helpers.ts'

const PAGE = 20

const org = `org-${randomUUID()}`
const [alice, bob, carol] = [person(org, 'Alice'), person(org, 'Bob'), person(org, 'Carol')]
for (const who of [alice, bob, carol]) await who.ask(ViewerDocument)

function apolloFor(who: Person) {
  const http = new HttpLink({ uri: httpUrl, headers: who.headers })
  const socket = new GraphQLWsLink(socketOf(who))
  return new ApolloClient({
    link: ApolloLink.split(({ query }) => isSubscriptionOperation(query), socket, http),
    cache: new InMemoryCache({
      possibleTypes: possibleTypes(),
      typePolicies: {
        Query: { fields: { chats: relayStylePagination(['filter']) } },
        // There is one viewer, and so it has no id.
        Viewer: { keyFields: [] },
        Chat: { fields: { messages: relayStylePagination() } },
        // Lists of plain values are replaced as a whole.
        Message: { fields: { reactions: { merge: false }, editHistory: { merge: false } } },
      },
    }),
  })
}

test('Apollo Client', async (t) => {
  assert(__DEV__, 'run under `node -C development`, or Apollo keeps its complaints to itself')
  consoleStaysSilent(t)

  const client = apolloFor(alice)
  t.after(() => client.stop())

  const opened = await client.mutate({ mutation: OpenDirectChatDocument, variables: { userId: bob.id } })
  const chatId = opened.data!.openDirectChat!.chat.id

  const send = async (text: string, replyToId?: string) => {
    const variables = { input: { chatId, text, replyToId, nonce: randomUUID() } }
    const { data } = await client.mutate({ mutation: SendMessageDocument, variables })
    return data!.sendMessage!.message
  }

  // The chat's view, as a component would watch it.
  const chat = client.watchQuery({ query: ChatDocument, variables: { chatId } })
  const list = client.watchQuery({ query: MessagesDocument, variables: { chatId, last: PAGE } })
  const edges = () => list.getCurrentResult().data!.chat!.messages!.edges!.map((edge) => edge!)
  const texts = () => edges().filter(({ node }) => node!.kind === 'TEXT').map(({ node }) => node!.text)
})
