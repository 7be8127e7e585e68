// Alice uses the front end of frontend.ts while the scenarios of everything.ts run, interleaved at random. All data of
// the front end must converge, field by field, to the responses that a client without a cache receives.

import assert from 'node:assert/strict'
import { randomInt, randomUUID } from 'node:crypto'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { buildClientSchema, getIntrospectionQuery, type IntrospectionQuery } from 'graphql'
import { type Actor, createChat, openDirectChat, type Scenario, scenarios, type Setup } from './everything.ts'
import { FrontEnd, sortedChats } from './frontend.ts'
import { ChatListDocument, ChatWindowDocument, JustSendDocument, ViewerDocument } from './generated/operations.ts'
import { createUser, eventually, expectSilentConsole, post, type User, withoutTypenames } from './helpers.ts'

/** The seed of the order of steps. Their timing depends on the machine. */
const SEED = Number(process.env.PARLOR_TEST_SEED ?? randomInt(1_000_000))

/** The number of steps between two comparisons. */
const STEPS = 25

suite(`a front end (PARLOR_TEST_SEED=${SEED})`, { concurrency: false }, () => {
  test('stays correct through every mutation', async (t) => {
    const fixture = await Fixture.create(t)
    for await (const _ of interleave(fixture.scenarios(), STEPS)) await fixture.assertCorrect()
    await fixture.assertCorrect()
    t.diagnostic(`requests: ${JSON.stringify(fixture.frontEnd.requests)}`)
  })

  test('stays correct through every mutation while its connection drops repeatedly', async (t) => {
    const fixture = await Fixture.create(t)
    let drops = 0
    const stopped = new AbortController()
    const dropping = (async () => {
      while (!stopped.signal.aborted) {
        await sleep(100 + random(700))
        // Usually the reconnect is immediate, sometimes it is delayed until many steps have passed.
        fixture.frontEnd.dropConnection(random(4) === 0 ? sleep(random(600)) : undefined)
        drops++
      }
    })()
    for await (const _ of interleave(fixture.scenarios(), STEPS * 3)) await fixture.assertCorrect()
    stopped.abort()
    await dropping
    await fixture.assertCorrect()
    t.diagnostic(`dropped ${drops} times; requests: ${JSON.stringify(fixture.frontEnd.requests)}`)
  })

  test('stays correct after it missed more events than a feed replays', async (t) => {
    const { frontEnd, setup, assertCorrect } = await Fixture.create(t)
    let reconnect = () => {}
    frontEnd.dropConnection(new Promise((resolve) => (reconnect = resolve)))
    // More messages than a feed replays one by one.
    for (let sent = 0; sent <= 1_000; sent += 40) await sendMany(setup.bob, setup.team, 40)
    reconnect()
    await assertCorrect()
  })

  test('the scenarios use every mutation of the schema', async () => {
    const { headers } = createUser(`org-${randomUUID()}`, 'Alice')
    const { data } = await post(headers, { query: getIntrospectionQuery() })
    const mutations = Object.keys(buildClientSchema(data as IntrospectionQuery).getMutationType()!.getFields())
    // Mutations of tokens don't change the data of a front end; the tests of sessions cover them.
    const tokenMutations = ['renewSession', 'revokeSessions']
    const expected = mutations.filter((name) => !tokenMutations.includes(name))
    assert.deepEqual(expected.filter((name) => !executed.has(name)), [], 'add them to a scenario of everything.ts')
  })
})

/** The users, their first chats, and Alice's front end. */
class Fixture {
  readonly frontEnd: FrontEnd
  readonly setup: Setup
  readonly #alice: User

  static async create(t: TestContext) {
    expectSilentConsole(t)
    const org = `org-${randomUUID()}`
    const [alice, bob, carol] = [createUser(org, 'Alice'), createUser(org, 'Bob'), createUser(org, 'Carol')]
    const mona = createUser(org, 'Mona', ['chat.view', 'chat.moderate', 'organization.admin'])
    // The server registers a user at their first request.
    for (const user of [alice, bob, carol, mona]) await user.ask(ViewerDocument)
    const team = await createChat(bob, [alice, carol], { title: 'The team' })
    const direct = await openDirectChat(bob, alice)

    const frontEnd = await FrontEnd.open(alice)
    t.after(() => frontEnd.close())
    const aliceInFrontEnd: Actor = { id: alice.id, ask: (mutation, variables) => frontEnd.mutate(mutation, variables) }
    const setup = { alice: aliceInFrontEnd, aliceOnOtherDevice: alice, bob, carol, mona, team, direct }
    return new Fixture(frontEnd, recordMutations(setup), alice)
  }

  constructor(frontEnd: FrontEnd, setup: Setup, alice: User) {
    this.frontEnd = frontEnd
    this.setup = setup
    this.#alice = alice
  }

  scenarios = () =>
    Object.entries(scenarios).map(([name, scenario]): [string, ReturnType<Scenario>] => [name, scenario(this.setup)])

  /** Waits until the chat list and each chat's window equal the server's responses. */
  assertCorrect = async () => {
    let difference = await this.#difference()
    // `deepEqual` needs seconds to describe how two large values differ, so it is only called after the timeout.
    const isCorrect = async () => assert.ok(!(difference = await this.#difference()), 'the front end is not up to date')
    await eventually(isCorrect, 15_000).catch(() => assert.deepEqual(difference?.actual, difference?.expected))
  }

  async #difference() {
    const lists = [false, true].map((archived) => this.#alice.ask(ChatListDocument, { archived }))
    const list = sortedChats(await Promise.all(lists))
    const actual = this.frontEnd.list()
    if (!isDeepStrictEqual(actual && withoutTypenames(actual), list)) return { actual, expected: list }
    for (const { id } of [...list.chats, ...list.archived]) {
      const expected = await this.#alice.ask(ChatWindowDocument, { chatId: id })
      const actual = withoutTypenames(this.frontEnd.window(id) ?? null)
      if (!isDeepStrictEqual(actual, expected)) return { actual, expected }
    }
    return undefined
  }
}

/** Runs steps of randomly selected scenarios, and yields after every `steps` steps. */
async function* interleave(scenarios: [string, AsyncGenerator<void>][], steps: number) {
  let step = 0
  while (scenarios.length > 0) {
    const [name, scenario] = scenarios[random(scenarios.length)]!
    try {
      const { done } = await scenario.next()
      if (done) scenarios = scenarios.filter(([other]) => other !== name)
    } catch (cause) {
      throw new Error(`the scenario "${name}" failed`, { cause })
    }
    if (++step % steps === 0) yield
  }
}

/** Returns a random number below a limit: Mulberry32 with the seed. */
let state = SEED
function random(limit: number) {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
}

/** The mutations that were executed. */
const executed = new Set<string>()

/** Returns a setup whose actors record their mutations. */
function recordMutations(setup: Setup): Setup {
  const recording = (actor: Actor): Actor => ({
    id: actor.id,
    async ask(document, variables) {
      const data = await actor.ask(document, variables)
      for (const field of mutationsOf(document)) executed.add(field)
      return data
    },
  })
  const { alice, aliceOnOtherDevice, bob, carol, mona, team, direct } = setup
  const actors = { alice, aliceOnOtherDevice, bob, carol, mona }
  const all = Object.entries(actors).map(([name, actor]) => [name, recording(actor)])
  return { ...(Object.fromEntries(all) as typeof actors), team, direct }
}

const mutationsOf = ({ definitions }: Document<unknown, any>) =>
  definitions
    .flatMap((part) => (part.kind === 'OperationDefinition' && part.operation === 'mutation' ? [part.selectionSet] : []))
    .flatMap(({ selections }) => selections.flatMap((field) => (field.kind === 'Field' ? [field.name.value] : [])))

/** Sends messages concurrently, because their order does not matter. */
async function sendMany(actor: Actor, chatId: string, count: number) {
  const send = (_: unknown, n: number) => actor.ask(JustSendDocument, { input: { chatId, text: `number ${n}` } })
  await Promise.all(Array.from({ length: count }, send))
}
