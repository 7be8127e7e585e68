// Scenarios that together use every mutation of the schema. Each is a generator that yields after every step, so that
// scenarios can be interleaved; the steps of one scenario keep their order.
//
// frontend.test.ts fails if a mutation is missing here.

import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { randomUUID } from 'node:crypto'
import {
  AddMembersDocument,
  AddReactionDocument,
  ArchiveChatDocument,
  BlockWordsDocument,
  ChangeMemberRoleDocument,
  ClosePollDocument,
  CreateChatDocument,
  type CreateChatInput,
  DeclineCallDocument,
  DeleteChatDocument,
  DeleteMessageDocument,
  EditMessageDocument,
  EndCallDocument,
  EnsureResourceChatDocument,
  ForwardMessageDocument,
  JoinCallDocument,
  JoinChannelDocument,
  LeaveCallDocument,
  LeaveChatDocument,
  MarkDeliveredDocument,
  MarkNotificationsReadDocument,
  MarkReadDocument,
  MarkThreadReadDocument,
  MarkUnreadDocument,
  OpenDirectChatDocument,
  PinMessageDocument,
  type PollInput,
  RemoveFromCallDocument,
  RemoveMemberDocument,
  RemoveReactionDocument,
  ReportCallQualityDocument,
  ReportMessageDocument,
  ResolveReportDocument,
  SendMessageDocument,
  type SendMessageInput,
  SendSignalDocument,
  SetPresenceDocument,
  SetTypingDocument,
  SilenceMemberDocument,
  StartCallDocument,
  UnbanMemberDocument,
  UnblockWordsDocument,
  UnpinMessageDocument,
  UpdateCallMediaDocument,
  UpdateChatDocument,
  UpdateMyMembershipDocument,
  VotePollDocument,
} from './generated/operations.ts'

export type Actor = { id: string; ask<T, V>(document: Document<T, V>, variables: V): Promise<T> }

export interface Setup {
  /** Alice, by the front end under test. */
  alice: Actor
  /** Alice on another device. */
  aliceOnOtherDevice: Actor
  bob: Actor
  carol: Actor
  /** A moderator of the organisation. */
  mona: Actor
  /** A group of Bob, Alice and Carol, owned by Bob. */
  team: string
  /** The direct chat of Alice and Bob. */
  direct: string
}

export type Scenario = (setup: Setup) => AsyncGenerator<void, void, void>

const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString()

async function send(user: Actor, chatId: string, message: string | Partial<SendMessageInput>) {
  const content = typeof message === 'string' ? { text: message } : message
  const sent = await user.ask(SendMessageDocument, { input: { chatId, nonce: randomUUID(), ...content } })
  return sent.sendMessage!.message.id
}

async function sendPoll(user: Actor, chatId: string, poll: PollInput) {
  const sent = await user.ask(SendMessageDocument, { input: { chatId, poll } })
  const { id, poll: created } = sent.sendMessage!.message
  return { messageId: id, options: created!.options.map((option) => option.id) }
}

export async function createChat(user: Actor, members: Actor[], options: Partial<CreateChatInput> & { title: string }) {
  const input = { kind: 'GROUP' as const, memberIds: members.map(({ id }) => id), nonce: randomUUID(), ...options }
  return (await user.ask(CreateChatDocument, { input })).createChat!.chat.id
}

export async function openDirectChat(user: Actor, other: Actor) {
  return (await user.ask(OpenDirectChatDocument, { userId: other.id })).openDirectChat!.chat.id
}

export const scenarios: Record<string, Scenario> = {
  async *messages({ alice, aliceOnOtherDevice, bob, carol, team }) {
    await bob.ask(SetPresenceDocument, { input: { status: 'BUSY', currentChatId: team } })
    await bob.ask(SetTypingDocument, { input: { chatId: team, typing: true } })
    const hello = await send(bob, team, 'Hello, *everyone*!')
    yield
    await send(alice, team, { text: 'Hello, Bob.', replyToId: hello })
    yield
    await carol.ask(AddReactionDocument, { input: { messageId: hello, emoji: '👍' } })
    yield
    await aliceOnOtherDevice.ask(AddReactionDocument, { input: { messageId: hello, emoji: '👍' } })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: hello, text: 'Hello, **all**!' } })
    yield
    await alice.ask(RemoveReactionDocument, { input: { messageId: hello, emoji: '👍' } })
    yield
    await send(bob, team, { text: 'Alice?', mentionIds: [alice.id] })
    yield
    await send(bob, team, { text: 'Everyone?', mentionsEveryone: true })
    yield
    await aliceOnOtherDevice.ask(MarkNotificationsReadDocument, { input: {} })
    await send(aliceOnOtherDevice, team, '🎉')
    yield
    const location = { latitude: 52.52, longitude: 13.405, name: 'Berlin', address: 'Alexanderplatz 1' }
    const shared = await send(carol, team, { location })
    yield
    const mistake = await send(alice, team, { text: 'Nice place', replyToId: shared })
    yield
    await alice.ask(DeleteMessageDocument, { input: { messageId: mistake } })
    yield
    await bob.ask(DeleteMessageDocument, { input: { messageId: hello } })
  },

  async *threads({ alice, aliceOnOtherDevice, bob, carol, team }) {
    const root = await send(alice, team, 'What about lunch?')
    yield
    const first = await send(bob, team, { text: 'At noon?', threadRootId: root })
    yield
    const second = await send(carol, team, { text: 'Later', threadRootId: root, alsoInChat: true })
    yield
    await aliceOnOtherDevice.ask(MarkThreadReadDocument, { input: { threadRootId: root, upToMessageId: first } })
    yield
    const third = await send(bob, team, { text: 'Alice?', threadRootId: root, mentionIds: [alice.id] })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: third, text: 'Anybody?', mentionIds: [] } })
    yield
    await aliceOnOtherDevice.ask(MarkThreadReadDocument, { input: { threadRootId: root } })
    yield
    await send(aliceOnOtherDevice, team, { text: 'Noon is fine', threadRootId: root, replyToId: first })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: first, text: 'At half past twelve?' } })
    yield
    await carol.ask(DeleteMessageDocument, { input: { messageId: second } })
    yield
    await alice.ask(EditMessageDocument, { input: { messageId: root, text: 'What about lunch today?' } })
  },

  async *polls({ alice, aliceOnOtherDevice, bob, carol, team }) {
    const poll = { question: 'Which days?', options: ['Monday', 'Tuesday', 'Friday'], multipleChoice: true }
    const { messageId, options } = await sendPoll(bob, team, poll)
    const [monday, tuesday, friday] = options
    yield
    await alice.ask(VotePollDocument, { input: { messageId, optionIds: [monday!, friday!] } })
    yield
    await carol.ask(VotePollDocument, { input: { messageId, optionIds: [tuesday!] } })
    yield
    await aliceOnOtherDevice.ask(VotePollDocument, { input: { messageId, optionIds: [tuesday!] } })
    yield
    await carol.ask(VotePollDocument, { input: { messageId, optionIds: [] } })
    yield
    await bob.ask(ClosePollDocument, { input: { messageId } })
    yield
    const secret = { question: 'More pay?', options: ['Yes', 'No'], anonymous: true, closesAt: inAnHour() }
    const second = await sendPoll(carol, team, secret)
    yield
    await bob.ask(VotePollDocument, { input: { messageId: second.messageId, optionIds: [second.options[0]!] } })
    yield
    await carol.ask(DeleteMessageDocument, { input: { messageId: second.messageId } })
  },

  async *pins({ alice, bob, carol, team }) {
    const rules = await send(bob, team, 'The rules of the house')
    yield
    await bob.ask(PinMessageDocument, { input: { messageId: rules } })
    yield
    const more = await send(alice, team, 'One more rule')
    yield
    await bob.ask(PinMessageDocument, { input: { messageId: more } })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: rules, text: 'The new rules of the house' } })
    yield
    await bob.ask(UnpinMessageDocument, { input: { messageId: rules } })
    yield
    const last = await send(carol, team, 'The last rule')
    await bob.ask(PinMessageDocument, { input: { messageId: last } })
    yield
    await carol.ask(DeleteMessageDocument, { input: { messageId: last } })
  },

  async *receipts({ alice, aliceOnOtherDevice, bob, direct }) {
    const first = await send(alice, direct, 'Are you there?')
    yield
    await bob.ask(MarkDeliveredDocument, { input: { upTo: [{ chatId: direct, messageId: first }] } })
    yield
    await bob.ask(MarkReadDocument, { input: { chatId: direct } })
    yield
    const reply = await send(bob, direct, 'I am.')
    yield
    const more = await send(bob, direct, 'What is it?')
    yield
    await alice.ask(MarkDeliveredDocument, { input: { upTo: [{ chatId: direct, messageId: more }] } })
    yield
    await aliceOnOtherDevice.ask(MarkReadDocument, { input: { chatId: direct, upToMessageId: reply } })
    yield
    await alice.ask(MarkReadDocument, { input: { chatId: direct } })
    yield
    await aliceOnOtherDevice.ask(MarkUnreadDocument, { input: { chatId: direct, fromMessageId: more } })
    yield
    await alice.ask(MarkReadDocument, { input: { chatId: direct } })
    yield
    await alice.ask(MarkUnreadDocument, { input: { chatId: direct } })
    yield
    await send(alice, direct, 'Nothing.')
    yield
    await bob.ask(MarkReadDocument, { input: { chatId: direct } })
  },

  async *privateReading({ alice, bob, carol }) {
    const chatId = await createChat(carol, [alice, bob], { title: 'Private reading' })
    await send(alice, chatId, 'Who reads this?')
    yield
    await bob.ask(MarkReadDocument, { input: { chatId } })
    yield
    await send(alice, chatId, 'And this?')
    yield
    await bob.ask(MarkReadDocument, { input: { chatId, private: true } })
    yield
    await alice.ask(MarkReadDocument, { input: { chatId, private: true } })
    yield
    const last = await send(alice, chatId, 'Not even this?')
    yield
    await bob.ask(MarkDeliveredDocument, { input: { upTo: [{ chatId, messageId: last }] } })
    yield
    await bob.ask(MarkReadDocument, { input: { chatId } })
  },

  async *ownSettings({ alice, aliceOnOtherDevice, team }) {
    const set = (user: Actor, settings: object) =>
      user.ask(UpdateMyMembershipDocument, { input: { chatId: team, ...settings } })
    await set(aliceOnOtherDevice, { pinned: true })
    yield
    await set(alice, { draft: 'I wanted to say' })
    yield
    await set(aliceOnOtherDevice, { mutedUntil: inAnHour(), notificationLevel: 'MENTIONS' })
    yield
    await set(alice, { pinned: null, draft: null })
    yield
    await set(aliceOnOtherDevice, { mutedUntil: null, notificationLevel: 'NONE' })
  },

  async *membership({ alice, aliceOnOtherDevice, bob, carol }) {
    const chatId = await createChat(bob, [alice], { title: 'Membership', category: 'OPERATIONAL' })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [carol.id] } })
    yield
    const thanks = await send(carol, chatId, 'Thank you!')
    yield
    await bob.ask(ChangeMemberRoleDocument, { input: { chatId, userId: alice.id, role: 'MODERATOR' } })
    yield
    await alice.ask(SilenceMemberDocument, { input: { chatId, userId: carol.id, until: inAnHour() } })
    yield
    await alice.ask(DeleteMessageDocument, { input: { messageId: thanks } })
    yield
    await bob.ask(ChangeMemberRoleDocument, { input: { chatId, userId: alice.id, role: 'MEMBER' } })
    yield
    await bob.ask(SilenceMemberDocument, { input: { chatId, userId: alice.id, until: inAnHour() } })
    yield
    await bob.ask(MarkReadDocument, { input: { chatId } })
    await bob.ask(SilenceMemberDocument, { input: { chatId, userId: alice.id } })
    yield
    await send(aliceOnOtherDevice, chatId, 'Where is Carol?')
    await carol.ask(MarkReadDocument, { input: { chatId } })
    yield
    await bob.ask(RemoveMemberDocument, { input: { chatId, userId: carol.id } })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [carol.id], role: 'ADMIN' } })
    yield
    await carol.ask(LeaveChatDocument, { input: { chatId } })
    yield
    await bob.ask(LeaveChatDocument, { input: { chatId } })
  },

  async *removalAndReturn({ alice, aliceOnOtherDevice, bob, carol }) {
    const chatId = await createChat(bob, [alice, carol], { title: 'Removal and return' })
    await send(bob, chatId, 'before')
    yield
    await bob.ask(RemoveMemberDocument, { input: { chatId, userId: alice.id } })
    yield
    await send(bob, chatId, 'Alice must not receive this')
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [alice.id] } })
    yield
    await send(bob, chatId, 'Welcome back')
    yield
    await aliceOnOtherDevice.ask(LeaveChatDocument, { input: { chatId } })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [alice.id] } })
    yield
    await send(carol, chatId, 'Once more')
    yield
    await alice.ask(LeaveChatDocument, { input: { chatId } })
  },

  async *channel({ alice, aliceOnOtherDevice, bob, carol }) {
    const chatId = await createChat(bob, [carol], { kind: 'CHANNEL', title: 'News' })
    yield
    await aliceOnOtherDevice.ask(JoinChannelDocument, { input: { chatId } })
    yield
    await send(bob, chatId, 'First news')
    yield
    await alice.ask(LeaveChatDocument, { input: { chatId } })
    yield
    await send(bob, chatId, 'Second news')
    yield
    await alice.ask(JoinChannelDocument, { input: { chatId } })
    yield
    await carol.ask(LeaveChatDocument, { input: { chatId } })
  },

  async *details({ alice, aliceOnOtherDevice, bob, carol }) {
    const chatId = await createChat(bob, [alice, carol], { title: 'Details', description: 'as they were' })
    const update = (details: object) => bob.ask(UpdateChatDocument, { input: { chatId, ...details } })
    await send(alice, chatId, 'I like it as it is')
    yield
    await update({ title: 'New details', avatarUrl: 'https://example.com/picture.png', category: 'DEPARTMENT' })
    yield
    await update({ description: null, slowModeSeconds: 3_600 })
    yield
    await send(carol, chatId, 'Slowly now')
    yield
    await update({ policy: [{ action: 'PIN', role: 'MEMBER' }, { action: 'DELETE_OTHERS_MESSAGES', role: 'MEMBER' }] })
    yield
    await update({ slowModeSeconds: 0, historyForNewMembers: 'SINCE_JOINED' })
    yield
    await bob.ask(ArchiveChatDocument, { input: { chatId, archived: true } })
    yield
    await aliceOnOtherDevice.ask(MarkReadDocument, { input: { chatId } })
    yield
    await bob.ask(ArchiveChatDocument, { input: { chatId, archived: false } })
    yield
    await update({ policy: null })
    yield
    await send(alice, chatId, 'Back again')
    await bob.ask(ArchiveChatDocument, { input: { chatId, archived: true } })
  },

  async *bans({ alice, bob, carol }) {
    const chatId = await createChat(bob, [alice, carol], { title: 'Bans' })
    yield
    await bob.ask(RemoveMemberDocument, { input: { chatId, userId: carol.id, ban: true, reason: 'Advertising' } })
    yield
    await bob.ask(UnbanMemberDocument, { input: { chatId, userId: carol.id } })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [carol.id] } })
  },

  async *chatDeletion({ alice, bob }) {
    const chatId = await createChat(bob, [alice], { title: 'Chat deletion' })
    yield
    await send(alice, chatId, 'It will not last')
    yield
    await bob.ask(DeleteChatDocument, { input: { chatId } })
  },

  async *resources({ alice, bob, carol, mona }) {
    const ensure = (type: string, members: Actor[]) =>
      mona.ask(EnsureResourceChatDocument, {
        input: { resource: { type, id: '4711' }, title: `${type} 4711`, memberIds: members.map(({ id }) => id) },
      })
    await ensure('shipment', [bob, alice])
    yield
    // Another object of the host application with the same id.
    const { ensureResourceChat } = await ensure('invoice', [bob, carol])
    yield
    await ensure('invoice', [bob, alice])
    yield
    await send(bob, ensureResourceChat!.chat.id, 'Who pays?')
    yield
    await ensure('shipment', [bob, carol])
  },

  async *newDirectChats({ alice, bob, carol }) {
    const chatId = await openDirectChat(carol, alice)
    yield
    await send(carol, chatId, 'We have not met')
    yield
    await openDirectChat(bob, carol)
    yield
    await send(bob, await openDirectChat(bob, bob), 'A note to myself')
  },

  async *forwarding({ alice, bob, carol, team, direct }) {
    const news = await send(bob, team, 'Read this')
    yield
    await bob.ask(ForwardMessageDocument, { input: { messageId: news, toChatId: direct } })
    yield
    const own = await send(alice, direct, 'Tell the others')
    yield
    await alice.ask(ForwardMessageDocument, { input: { messageId: own, toChatId: team, nonce: randomUUID() } })
    yield
    const { messageId, options } = await sendPoll(carol, team, { question: 'Again?', options: ['Yes', 'No'] })
    await carol.ask(VotePollDocument, { input: { messageId, optionIds: [options[0]!] } })
    yield
    await alice.ask(ForwardMessageDocument, { input: { messageId, toChatId: direct } })
  },

  async *moderation({ alice, bob, mona, team }) {
    await mona.ask(BlockWordsDocument, { input: { words: ['darn'], action: 'MASK' } })
    yield
    const messageId = await send(bob, team, 'Oh, darn it')
    yield
    const { reportMessage } = await alice.ask(ReportMessageDocument, { input: { messageId, reason: 'rude' } })
    yield
    await mona.ask(ResolveReportDocument, {
      input: { reportId: reportMessage!.reportId, resolution: 'ACTION_TAKEN' },
    })
    yield
    await mona.ask(UnblockWordsDocument, { input: { words: ['darn'] } })
  },

  async *calls({ alice, aliceOnOtherDevice, bob, carol }) {
    const chatId = await createChat(bob, [alice, carol], { title: 'Calls' })
    const media = { audio: true, video: false, screen: false }
    const start = async (user: Actor) =>
      (await user.ask(StartCallDocument, { input: { chatId, kind: 'AUDIO', deviceId: 'phone', media } })).startCall!
    const join = async (user: Actor, callId: string) =>
      (await user.ask(JoinCallDocument, { input: { callId, deviceId: 'phone' } })).joinCall!.participant
    const { call, participant } = await start(bob)
    const callId = call.id
    yield
    await aliceOnOtherDevice.ask(DeclineCallDocument, { input: { callId } })
    yield
    const { id: carolsParticipant, connectionId: fromConnectionId } = await join(carol, callId)
    const candidates = [{ candidate: '', sdpMid: '0' }]
    await carol.ask(SendSignalDocument, {
      input: {
        callId,
        fromConnectionId: fromConnectionId!,
        toConnectionId: participant.connectionId!,
        kind: 'ICE_CANDIDATES',
        payload: candidates,
        nonce: randomUUID(),
      },
    })
    yield
    const { id: participantId, connectionId } = await join(alice, callId)
    const own = { callId, participantId, connectionId }
    await alice.ask(UpdateCallMediaDocument, { input: { ...own, media } })
    yield
    await alice.ask(ReportCallQualityDocument, {
      input: { ...own, roundTripMs: 20, packetLossPercent: 0.5, bitrateKbps: 300 },
    })
    await alice.ask(LeaveCallDocument, { input: own })
    yield
    await bob.ask(RemoveFromCallDocument, { input: { callId, participantId: carolsParticipant } })
    yield
    await bob.ask(EndCallDocument, { input: { callId } })
    yield
    await start(alice)
  },
}
