// Calls between pages of examples/call in Chromium, which are connected only by Parlor.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Caller, type Environment, type Kind, type Options, startEnvironment } from './callers.ts'
import { CallHistoryDocument, CreateChatDocument, MissedCallsDocument, ViewerDocument } from './generated/operations.ts'
import { createTwoUsers, createUser, eventually, httpUrl, type User } from './helpers.ts'

// The server whose calls ring for 5 seconds, and which has a TURN relay.
const callsUrl = process.env.PARLOR_TEST_CALLS_URL
// The server whose TURN credentials are valid for a minute.
const shortTurnUrl = process.env.PARLOR_TEST_SHORT_TURN_URL

suite('calls', { skip: callsUrl ? false : 'PARLOR_TEST_CALLS_URL is not set' }, () => {
  const relayed = new URL(callsUrl ?? httpUrl).origin
  const direct = new URL(httpUrl).origin
  const graphql = `${relayed}/graphql`
  let environment: Environment
  let open: Caller[] = []

  before(async () => void (environment = await startEnvironment()))
  after(() => environment?.close())

  async function openCaller(user: User, chatId: string, options: Options) {
    const caller = await environment.openCaller(user, chatId, options)
    open.push(caller)
    return caller
  }

  /** Closes the pages of a test, and asserts that they had no errors. */
  async function closeCallers() {
    const closing = open
    open = []
    for (const { page } of closing) await page.context().close()
    assert.deepEqual(closing.flatMap(({ errors }) => errors), [])
  }

  const history = async (user: User, chatId: string) => (await user.ask(CallHistoryDocument, { chatId })).calls.nodes

  /** Returns the growth of a counter of the other user's media during the next second of audio. */
  async function growth(caller: Caller, kind: Kind, counter: string) {
    const count = async (kind: Kind, counter: string) => {
      const [first] = (await caller.received(kind, counter)).tracks.values()
      return first!
    }
    const samples = () => count('audio', 'totalSamplesReceived')
    const [began, before] = [await samples(), await count(kind, counter)]
    await eventually(async () => assert.ok((await samples()) > began + 48_000, 'no audio'))
    return (await count(kind, counter)) - before
  }

  for (const [way, options] of [
    ['directly', { server: direct }],
    ['through a relay', { server: relayed, relay: true }],
  ] as const) {
    suite(`between two users, ${way}`, () => {
      let alice: Caller
      let bob: Caller
      let chatId: string

      before(async () => {
        const users = await createTwoUsers(new URL('/graphql', options.server).href)
        chatId = users.chatId
        alice = await openCaller(users.alice, chatId, options)
        bob = await openCaller(users.bob, chatId, options)
      })
      after(closeCallers)

      test('Bob answers a call from Alice', async () => {
        await alice.press('Video call')
        await bob.waitForText('ringing', 'Alice is calling (video)')
        await bob.press('Answer')
        await alice.waitForText('participants', 'Bob: connected, microphone on, camera on, screen off')
        await bob.waitForText('participants', 'Alice: connected, microphone on, camera on, screen off')
        await bob.waitUntilNotRinging()
      })

      test('audio and video are received in both directions', async () => {
        await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
        await alice.waitForVideos('Bob')
        await bob.waitForVideos('Alice')
      })

      if ('relay' in options) {
        test('media only goes through the relay', async () => {
          assert.deepEqual(await alice.candidateTypes(), [['relay', 'relay']])
          assert.deepEqual(await bob.candidateTypes(), [['relay', 'relay']])
        })
      }

      test('a muted microphone is silent', async () => {
        await alice.press('Microphone')
        await bob.waitForText('participants', 'Alice: connected, microphone off, camera on')
        // Packets with silence continue. The fake microphone beeps twice a second.
        const loudness = () => growth(bob, 'audio', 'totalAudioEnergy')
        await eventually(async () => assert.ok((await loudness()) < 1e-7, 'audio of a muted microphone'), 15_000)
        await alice.press('Microphone')
        await bob.waitForText('participants', 'Alice: connected, microphone on')
        await eventually(async () => assert.ok((await loudness()) > 1e-7, 'no audio'), 15_000)
      })

      test('a camera that is turned off sends no frames', async () => {
        await alice.press('Camera')
        await bob.waitForText('participants', 'Alice: connected, microphone on, camera off')
        await eventually(async () => assert.equal(await growth(bob, 'video', 'framesDecoded'), 0), 15_000)
        await alice.press('Camera')
        await bob.waitForText('participants', 'Alice: connected, microphone on, camera on')
        await bob.waitForMedia()
      })

      test('a shared screen is an additional stream until it ends', async () => {
        await alice.press('Share screen')
        await bob.waitForVideos('Alice', "Alice's screen")
        await bob.waitForText('participants', 'Alice: connected, microphone on, camera on, screen on')
        await alice.press('Share screen')
        await bob.waitForVideos('Alice')
        await bob.waitForText('participants', /Alice: .* screen off/)
      })

      test('simultaneous offers of both sides succeed', async () => {
        await Promise.all([alice.press('Share screen'), bob.press('Share screen')])
        await Promise.all([bob.waitForVideos('Alice', "Alice's screen"), alice.waitForVideos('Bob', "Bob's screen")])
        await Promise.all([alice.press('Share screen'), bob.press('Share screen')])
        await Promise.all([bob.waitForVideos('Alice'), alice.waitForVideos('Bob')])
        await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      })

      test('either side restarts a failed connection', async () => {
        for (const caller of [alice, bob]) {
          const before = [await alice.iceFragment(), await bob.iceFragment()]
          await caller.simulateFailure()
          await eventually(async () => {
            assert.notEqual(await alice.iceFragment(), before[0])
            assert.notEqual(await bob.iceFragment(), before[1])
          })
          await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
        }
      })

      test('a participant whose socket drops stays, and receives missed signals after the reconnect', async () => {
        const joined = (await history(alice.user, chatId))[0]!.participants
        await bob.proxy.goOffline()
        await alice.press('Share screen')
        await alice.waitForText('participants', /Alice: .* screen on/)
        await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
        await bob.waitForVideos('Alice')

        bob.proxy.goOnline()
        await bob.waitForVideos('Alice', "Alice's screen")
        await bob.waitForMedia(1, 1)
        assert.deepEqual((await history(alice.user, chatId))[0]!.participants, joined)
        const connections = [await alice.connectionCount(), await bob.connectionCount()]
        assert.deepEqual(connections, [1, 1], 'a peer connection was replaced')
      })

      test('a user user reloads the page joins again', async () => {
        await bob.page.reload()
        await bob.press('Join the call')
        await Promise.all([alice.waitForMedia(), bob.waitForMedia(1, 1)])
        await bob.waitForVideos('Alice', "Alice's screen")
        assert.deepEqual([await alice.connectionCount(), await bob.connectionCount()], [2, 1])
      })

      test('the call has quality reports', () =>
        eventually(async () => {
          const { quality } = (await history(alice.user, chatId))[0]!
          assert.ok(quality && quality.reports > 0, 'no reports')
          assert.ok(quality.averageBitrateKbps! > 0, 'no bitrate')
        }, 10_000))

      test('a call that was hung up is in the history', async () => {
        await alice.hangUp()
        await alice.waitUntilIdle()
        await bob.waitUntilIdle()
        await alice.waitForText('history', /^outgoing video call from Alice: \d+:\d\d$/)
        await bob.waitForText('history', /^incoming video call from Alice: \d+:\d\d$/)
        await bob.waitForText('messages', /^Alice started a call\s+The call ended after \d+:\d\d$/)
        const [call] = await history(bob.user, chatId)
        assert.equal(call!.endReason, 'COMPLETED')
        assert.ok(call!.durationSeconds! > 0, 'a duration of 0')
      })
    })
  }

  suite('between more than two devices', () => {
    afterEach(closeCallers)

    test('three users see each other, and two remain when one leaves', async () => {
      const org = `org-${randomUUID()}`
      const users = ['Alice', 'Bob', 'Carol'].map((name) => createUser(org, name))
      for (const user of users) await user.ask(ViewerDocument)
      const memberIds = users.slice(1).map(({ id }) => id)
      const created = await users[0]!.ask(CreateChatDocument, { input: { kind: 'GROUP', title: 'Three', memberIds } })
      const chatId = created.createChat!.chat.id
      const callers: Caller[] = []
      for (const user of users) callers.push(await openCaller(user, chatId, { server: direct }))
      const [alice, bob, carol] = callers as [Caller, Caller, Caller]

      await alice.press('Video call')
      await bob.press('Answer')
      await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      await carol.press('Answer')
      await Promise.all(callers.map((caller) => caller.waitForMedia(2)))
      await bob.waitForVideos('Alice', 'Carol')

      await alice.hangUp()
      await Promise.all([bob.waitForMedia(), carol.waitForMedia()])
      await bob.waitForVideos('Carol')
      await bob.hangUp()
      await carol.hangUp()
      await alice.waitForText('history', /^outgoing video call from Alice: \d+:\d\d$/)
    })

    test('a device stops ringing when another device of the user answers', async () => {
      const users = await createTwoUsers()
      const alice = await openCaller(users.alice, users.chatId, { server: direct })
      const phone = await openCaller(users.bob, users.chatId, { server: direct })
      const laptop = await openCaller(users.bob, users.chatId, { server: direct })

      await alice.press('Audio call')
      await phone.waitForText('ringing', 'Alice is calling (audio)')
      await laptop.waitForText('ringing', 'Alice is calling (audio)')
      await laptop.press('Answer')
      await alice.waitForText('participants', 'Bob: connected, microphone on, camera off')
      await phone.waitUntilNotRinging()
      // A user can be in a call with only one device, but can move it to another one.
      await phone.waitUntilElsewhere()
      await phone.press('Move the call here')
      await laptop.waitUntilIdle()
      await alice.waitForText('participants', 'Bob: connected, microphone on, camera off')
      await phone.hangUp()
      await laptop.waitForText('history', /^incoming audio call from Alice: \d+:\d\d$/)
    })
  })

  suite('between two pages, in difficult conditions', () => {
    afterEach(closeCallers)

    async function openVideoCall(server = direct, relay = false, whileRinging = async () => {}) {
      const users = await createTwoUsers(`${server}/graphql`)
      const alice = await openCaller(users.alice, users.chatId, { server, relay })
      const bob = await openCaller(users.bob, users.chatId, { server, relay })
      await alice.press('Video call')
      await whileRinging()
      await bob.press('Answer')
      const answeredAt = Date.now()
      await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      return { alice, bob, connectedMs: Date.now() - answeredAt }
    }

    test('page recovers within 5 s when it is reloaded while the other side shares and lags 300 ms', async () => {
      const { alice, bob } = await openVideoCall()
      alice.proxy.delay = 300
      for (let round = 1; round <= 20; round += 1) {
        const shares = round % 2 // 1 while Alice's screen is shared
        await bob.page.reload()
        // Alice still negotiates with the former connection.
        const sharing = sleep((round * 20) % 400).then(() => alice.press('Share screen'))
        await bob.press('Join the call')
        await eventually(async () => assert.equal(await bob.connectionCount(), 1), 15_000)
        const joinedAt = Date.now()
        await eventually(async () => assert.equal(await alice.connectionCount(), round + 1), 15_000)
        await alice.waitForText('participants', 'Bob: connected')
        await bob.waitForText('participants', 'Alice: connected')
        const milliseconds = Date.now() - joinedAt
        assert.ok(milliseconds < 5_000, `round ${round}: ${milliseconds} ms`)
        await sharing
        await bob.waitForVideos('Alice', ...(shares ? ["Alice's screen"] : []))
        await Promise.all([alice.waitForMedia(), bob.waitForMedia(1, shares)])
      }
    })

    test('30 screen shares leave the session description flat', async () => {
      const { alice, bob } = await openVideoCall()
      const sizes = []
      for (let round = 1; round <= 30; round += 1) {
        await alice.press('Share screen')
        await bob.waitForVideos('Alice', "Alice's screen")
        sizes.push({ alice: await alice.descriptionSize(), bob: await bob.descriptionSize() })
        await alice.press('Share screen')
        await bob.waitForVideos('Alice')
      }
      // A section that is offered for the second time lists more codecs, once.
      const [first, last] = [sizes[1]!, sizes.at(-1)!]
      for (const name of ['alice', 'bob'] as const) {
        assert.equal(last[name].sections, first[name].sections, `media sections of ${name}`)
        const growth = last[name].length - first[name].length
        assert.ok(Math.abs(growth) < 200, `the description of ${name} has grown by ${growth} characters`)
      }
      assert.deepEqual([await alice.connectionCount(), await bob.connectionCount()], [1, 1])
    })

    test('a refused offer is shown, and the connection is replaced', async () => {
      const { alice, bob } = await openVideoCall()
      await alice.makeLargeOffer()
      await alice.waitForText('status', 'The connection to Bob is renewed')
      await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      assert.deepEqual([await alice.connectionCount(), await bob.connectionCount()], [2, 2])
      await bob.press('Share screen')
      await alice.waitForVideos('Bob', "Bob's screen")
    })

    test('a connection that fails twice is replaced on both sides', async () => {
      const { alice, bob } = await openVideoCall()
      for (const [n, caller] of [alice, bob].entries()) {
        await caller.simulateFailure()
        await caller.simulateFailure()
        await eventually(async () => {
          assert.deepEqual([await alice.connectionCount(), await bob.connectionCount()], [n + 2, n + 2])
        })
        await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      }
    })

    test('a duplicated tab shows that the call is in another tab, and moves it', async () => {
      const { alice, bob } = await openVideoCall()
      const copy = await bob.duplicate()
      open.push(copy)
      await copy.waitUntilElsewhere()
      assert.equal(await copy.page.getByRole('button', { name: 'Join the call' }).isVisible(), false)
      await bob.waitForMedia()

      await copy.press('Move the call here')
      await Promise.all([alice.waitForMedia(), copy.waitForMedia()])
      await bob.waitUntilElsewhere()
      // The former tab does not join again.
      await sleep(3_000)
      await copy.waitForMedia()
      assert.deepEqual([await alice.connectionCount(), await copy.connectionCount()], [2, 1])
      await copy.hangUp()
      await Promise.all([alice.waitUntilIdle(), bob.waitUntilIdle()])
    })

    const skip = shortTurnUrl ? false : 'PARLOR_TEST_SHORT_TURN_URL is not set'
    test('relay-only late joiner connects after the first credentials ended', { skip }, async () => {
      const { alice, bob, connectedMs } = await openVideoCall(shortTurnUrl, true, () => sleep(62_000))
      assert.deepEqual(await alice.candidateTypes(), [['relay', 'relay']])
      assert.deepEqual([await alice.connectionCount(), await bob.connectionCount()], [1, 1])
      assert.ok(connectedMs < 5_000, `${connectedMs} ms`)
    })
  })

  suite('after a long disconnection', () => {
    afterEach(closeCallers)

    test('a participant user is disconnected for too long has left, and joins again automatically', async () => {
      const users = await createTwoUsers()
      const alice = await openCaller(users.alice, users.chatId, { server: direct })
      const bob = await openCaller(users.bob, users.chatId, { server: direct })

      await alice.press('Video call')
      await bob.press('Answer')
      await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      await bob.proxy.goOffline()
      await alice.waitForText('participants', 'Bob: left', 25_000)
      await alice.waitForVideos()
      bob.proxy.goOnline()
      await Promise.all([alice.waitForMedia(), bob.waitForMedia()])
      await alice.waitForVideos('Bob')
      assert.deepEqual([await alice.connectionCount(), await bob.connectionCount()], [2, 2])
      await bob.hangUp()
      await alice.waitUntilIdle()
    })
  })

  suite('without an answer', () => {
    afterEach(closeCallers)

    test('an unanswered call is missed, with a notification', async () => {
      const users = await createTwoUsers(graphql)
      const alice = await openCaller(users.alice, users.chatId, { server: relayed })
      const bob = await openCaller(users.bob, users.chatId, { server: relayed })

      await alice.press('Audio call')
      await bob.waitForText('ringing', 'Alice is calling')
      await bob.waitForText('status', 'You missed a call from Alice.')
      await bob.waitUntilNotRinging()
      await alice.waitForText('history', /^outgoing audio call from Alice: missed$/)
      await bob.waitForText('history', /^incoming audio call from Alice: missed$/)
      await bob.waitForText('messages', 'Missed call from Alice')

      const [call] = await history(bob.user, users.chatId)
      const { notifications } = (await bob.user.ask(MissedCallsDocument)).viewer
      const missed = { id: call!.id, endReason: 'MISSED' }
      assert.deepEqual(notifications.nodes, [{ kind: 'MISSED_CALL', actor: { id: alice.user.id }, call: missed }])
    })

    test('a declined call ends immediately', async () => {
      const users = await createTwoUsers()
      const alice = await openCaller(users.alice, users.chatId, { server: direct })
      const bob = await openCaller(users.bob, users.chatId, { server: direct })

      await alice.press('Video call')
      await bob.press('Decline')
      await alice.waitForText('history', /^outgoing video call from Alice: declined$/)
      await alice.waitUntilIdle()
      await bob.waitUntilNotRinging()
    })
  })
})
