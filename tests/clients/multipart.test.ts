// Apollo Client with its HTTP link alone: subscriptions arrive in a multipart response, and no WebSocket is needed.

import { ApolloClient, CombinedProtocolErrors, HttpLink, InMemoryCache } from '@apollo/client'
import { randomUUID } from 'node:crypto'
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { MessageAddedDocument, type MessageAddedSubscription, SendMessageDocument } from './generated/operations.ts'
import { createTwoUsers, createUser, eventually, expectSilentConsole, httpUrl, sendText, until, type User } from './helpers.ts'

function clientFor(t: TestContext, user: User) {
  const link = new HttpLink({ uri: httpUrl, headers: user.headers })
  const client = new ApolloClient({ link, cache: new InMemoryCache() })
  t.after(() => client.stop())
  return client
}

/** Subscribes to the messages of a user's chats, and returns what arrives. */
function watchMessages(t: TestContext, user: User) {
  const texts: (string | null | undefined)[] = []
  const errors: unknown[] = []
  let completed = false
  const subscription = clientFor(t, user)
    .subscribe<MessageAddedSubscription>({ query: MessageAddedDocument })
    .subscribe({
      next({ data, error }) {
        if (error) errors.push(error)
        else texts.push(data?.messageAdded.text)
      },
      error: (error) => errors.push(error),
      complete: () => (completed = true),
    })
  t.after(() => subscription.unsubscribe())
  return { texts, errors, subscription, hasCompleted: () => completed }
}

test('each event arrives over HTTP before there is another one', async (t) => {
  expectSilentConsole(t)
  const { alice, bob, chatId } = await createTwoUsers()
  const { texts, errors, subscription } = watchMessages(t, bob)
  // The subscription is open once a message arrives.
  await eventually(async () => {
    await sendText(alice, chatId, 'ready')
    assert.ok(texts.includes('ready'), 'no message yet')
  })
  for (const text of ['one', 'two\r\n--graphql\r\nthree', 'four']) {
    await sendText(alice, chatId, text)
    await until(() => texts.at(-1) === text.replaceAll('\r\n', '\n'))
  }
  assert.deepEqual(errors, [])
  subscription.unsubscribe()
})

test('a rejected token and an invalid operation are errors of the subscription', async (t) => {
  expectSilentConsole(t)
  const stranger = { ...createUser(`org-${randomUUID()}`, 'Eve'), headers: { authorization: 'Bearer nonsense' } }
  const refused = watchMessages(t, stranger)
  await until(() => refused.errors.length === 1)
  assert.match(String(refused.errors[0]), /malformed|401/)
  assert.ok(!CombinedProtocolErrors.is(refused.errors[0]), 'the request was refused before the stream began')

  const noViewer = createUser(`org-${randomUUID()}`, 'Nobody', [])
  const forbidden = watchMessages(t, noViewer)
  await until(() => forbidden.errors.length === 1)
  assert.match(String(forbidden.errors[0]), /chat\.view/)
  await until(forbidden.hasCompleted)
})

test('queries and mutations of the same link get JSON', async (t) => {
  expectSilentConsole(t)
  const { alice, chatId } = await createTwoUsers()
  const input = { chatId, text: 'hello', nonce: randomUUID() }
  const { data } = await clientFor(t, alice).mutate({ mutation: SendMessageDocument, variables: { input } })
  assert.equal(data?.sendMessage?.message.text, 'hello')
})
