// A call, from joining to hanging up. Browsers exchange media directly; Parlor delivers signals and participants.

import { sleep } from './api.js'
import { Peer } from './peer.js'
import { measure } from './quality.js'

export const CALL = `
  fragment CallParts on Call {
    id kind status endReason startedAt durationSeconds viewerDirection
    startedBy { id name } chat { id kind } participants { ...ParticipantParts }
  }
  fragment ParticipantParts on CallParticipant {
    id status connectionId deviceId user { id name } media { audio video screen }
  }`

const mutation = (name, answer) =>
  `mutation ($input: ${name[0].toUpperCase()}${name.slice(1)}Input!) { ${name}(input: $input) { ${answer} } }`
const ICE_SERVERS = 'iceServers { urls username credential expiresAt }'
const JOINED = `call { ...CallParts } participant { id connectionId } ${ICE_SERVERS}`
const START = mutation('startCall', JOINED) + CALL
const JOIN = mutation('joinCall', JOINED) + CALL
const LEAVE = mutation('leaveCall', 'call { id }')
const END = mutation('endCall', 'call { id }')
const MEDIA = mutation('updateCallMedia', 'call { id }')
const SIGNAL = mutation('sendSignal', 'delivered')
const QUALITY = mutation('reportCallQuality', 'call { id }')
const FEED = `subscription ($callId: ID!, $participantId: ID!, $connectionId: ID!, $after: String) {
  callFeed(callId: $callId, participantId: $participantId, connectionId: $connectionId, after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on CallUpserted { call { ...CallParts } }
    ... on ParticipantUpserted { participant { ...ParticipantParts } negotiation { offers polite } }
    ... on SignalReceived { signal { from { id } fromConnectionId kind payload } }
    ... on CallFeedEnded { reason }
  }
} ${CALL}`

/** Credentials that end sooner are not used for a new connection. */
const CREDENTIALS_MS = 5 * 60_000

export class Call {
  /** All participants, including those who have left, and the connections to the others in the call, both by id. */
  participants = new Map()
  peers = new Map()
  /** The media that this side sends. */
  stream = new MediaStream()
  screen = null
  media = { audio: true, video: false, screen: false }
  over = false
  #counters = { at: Date.now() }

  /** `changed()` is called when the page must be redrawn, and `warn(text)` when the user should know something. */
  constructor({ api, deviceId, relay, changed, warn }) {
    Object.assign(this, { api, deviceId, relay, changed, warn })
  }

  /** Starts a call in a chat, or joins the active one. */
  start(chatId, kind) {
    return this.#begin(kind, START, { chatId, kind })
  }

  /** Answers a ringing call, or joins an active one. `takeOver` moves it here from another tab or device of the user. */
  join({ id, kind }, takeOver = false) {
    return this.#begin(kind, JOIN, { callId: id, takeOver })
  }

  async setAudio(on) {
    for (const track of this.stream.getAudioTracks()) track.enabled = on
    await this.#updateMedia({ audio: on })
  }

  /** Turning the video off releases the camera, so that its light goes out. */
  async setVideo(on) {
    const [track = null] = on ? (await navigator.mediaDevices.getUserMedia({ video: true })).getTracks() : []
    for (const old of this.stream.getVideoTracks()) {
      old.stop()
      this.stream.removeTrack(old)
    }
    if (track) this.stream.addTrack(track)
    for (const peer of this.peers.values()) await peer.setTrack('video', track, this.stream)
    await this.#updateMedia({ video: on })
  }

  async setScreen(on) {
    this.screen?.getTracks().forEach((track) => track.stop())
    this.screen = on ? await navigator.mediaDevices.getDisplayMedia() : null
    const [track] = this.screen?.getVideoTracks() ?? []
    if (track) track.onended = () => this.setScreen(false) // stopped by the browser's button
    for (const peer of this.peers.values()) {
      if (track) await peer.setTrack('screen', track, this.screen)
      else peer.removeTrack('screen')
    }
    await this.#updateMedia({ screen: on })
  }

  /** Ends a call in a direct chat. A call in a group continues with the other participants. */
  async hangUp() {
    this.over = true
    try {
      if (this.call.chat.kind === 'DIRECT') await this.api.ask(END, { input: { callId: this.call.id } })
      else await this.api.ask(LEAVE, { input: this.own })
    } finally {
      this.#close()
    }
  }

  // ---------------------------------------------------------------- internals

  async #begin(kind, join, target) {
    try {
      this.media.video = kind === 'VIDEO'
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: this.media.video })
      await this.#enter(join, target)
      this.timer = setInterval(() => this.#report().catch(console.warn), 5_000)
    } catch (error) {
      this.#close()
      throw error
    }
  }

  /** Joins, and subscribes to the feed from its beginning, which also delivers the current participants. */
  async #enter(join, target) {
    const input = { ...target, deviceId: this.deviceId, media: this.media }
    const { call, participant, iceServers } = await this.api.ask(join, { input })
    this.call = call
    this.iceServers = iceServers
    this.own = { callId: call.id, participantId: participant.id, connectionId: participant.connectionId }
    this.mustJoinAgain = false
    this.stop = this.api.subscribe(FEED, { ...this.own }, (event) => this.#handle(event), () => this.#feedEnded())
  }

  async #handle({ __typename, call, participant, negotiation, signal, reason }) {
    if (__typename === 'CallUpserted') this.call = call
    if (__typename === 'ParticipantUpserted') await this.#updateParticipant(participant, negotiation)
    if (__typename === 'SignalReceived') this.#receive(signal)
    if (__typename === 'CallFeedEnded') this.mustJoinAgain = reason === 'LOST'
    if (__typename === 'FeedReset') {
      this.mustJoinAgain = true // signals may be lost
      this.stop()
    }
    this.changed()
  }

  /** Passes a signal to the connection that it is for; one of a former join belongs to none. */
  #receive(signal) {
    const { id } = signal.from
    if (this.participants.get(id)?.connectionId === signal.fromConnectionId) this.peers.get(id)?.receive(signal)
  }

  /** Connects to a participant who joined, again when their `connectionId` changes, and disconnects after they left. */
  async #updateParticipant(participant, negotiation) {
    const { id, connectionId } = participant
    if (!negotiation || this.participants.get(id)?.connectionId !== connectionId) this.#disconnect(id)
    this.participants.set(id, participant)
    if (!negotiation || this.peers.has(id)) return

    const between = {
      callId: this.own.callId,
      fromConnectionId: this.own.connectionId,
      toConnectionId: connectionId,
    }
    const peer = new Peer({
      negotiation,
      configure: (fresh) => this.#configuration(fresh),
      signal: (kind, payload) =>
        this.api.ask(SIGNAL, { input: { ...between, kind, payload, nonce: crypto.randomUUID() } }),
      changed: this.changed,
      refused: ({ message }) => this.warn(`The connection to ${participant.user.name} is renewed: ${message}`),
    })
    this.peers.set(id, peer)
    for (const track of this.stream.getTracks()) await peer.setTrack(track.kind, track, this.stream)
    for (const track of this.screen?.getVideoTracks() ?? []) await peer.setTrack('screen', track, this.screen)
  }

  #disconnect(id) {
    this.peers.get(id)?.close()
    this.peers.delete(id)
  }

  /**
   * Joins again if this side was disconnected for too long and has left. Otherwise the call is over here: it has ended,
   * or the user continues it in another tab or on another device.
   */
  async #feedEnded() {
    if (this.over || !this.mustJoinAgain || this.call.status === 'ENDED') return this.#close()
    for (const id of this.peers.keys()) this.#disconnect(id)
    await sleep(1_000)
    if (!this.over) await this.#enter(JOIN, { callId: this.call.id }).catch(() => this.#close())
  }

  #close() {
    this.over = true
    this.stop?.()
    clearInterval(this.timer)
    for (const id of this.peers.keys()) this.#disconnect(id)
    for (const stream of [this.stream, this.screen]) stream?.getTracks().forEach((track) => track.stop())
    this.changed()
  }

  /** Requests new credentials of the TURN servers if the known ones end soon, or always if `fresh` is true. */
  async #configuration(fresh) {
    const endsSoon = ({ expiresAt }) => expiresAt !== null && Date.parse(expiresAt) < Date.now() + CREDENTIALS_MS
    if (fresh || this.iceServers.some(endsSoon)) {
      const received = ({ iceServers }) => (this.iceServers = iceServers)
      await this.api.ask(`{ viewer { ${ICE_SERVERS} } }`).then(received).catch(console.warn)
    }
    // STUN servers have no credentials, and a browser rejects null.
    const withoutNulls = ({ urls, username, credential }) => (username ? { urls, username, credential } : { urls })
    return { iceServers: this.iceServers.map(withoutNulls), iceTransportPolicy: this.relay ? 'relay' : 'all' }
  }

  async #updateMedia(change) {
    Object.assign(this.media, change)
    this.changed()
    await this.api.ask(MEDIA, { input: { ...this.own, media: this.media } })
  }

  async #report() {
    const { counters, quality } = await measure([...this.peers.values()], this.#counters)
    this.#counters = counters
    if (quality) await this.api.ask(QUALITY, { input: { ...this.own, ...quality } })
  }
}
