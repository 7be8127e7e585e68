// The connection to one other participant, by the "perfect negotiation" of the W3C: either side may change its media at
// any time, and if two offers collide, the polite side withdraws its own.
// https://www.w3.org/TR/webrtc/#perfect-negotiation-example
//
// If that does not help, both sides replace their RTCPeerConnection by a new one. Each side counts its own, and
// announces a replacement by RENEGOTIATE with the new number in `reset`; the other side follows to the higher number.

const CONNECT_SECONDS = 15

export class Peer {
  /** The received streams: first microphone and camera, then a shared screen. */
  streams = new Set()
  #tracks = new Map() // what this side sends: tracks with their streams, by name
  #senders = {}
  #makingOffer = false
  #ignoringOffer = false
  #hasFailed = false
  #timer
  #configured
  #received = Promise.resolve()
  #outbox = []
  #sending = false
  #number = 0
  #numberOfOther = 0

  /**
   * `configure(fresh)` returns an RTCConfiguration, with new credentials if `fresh` is true; `signal(kind, payload)`
   * sends a signal to the other side; `refused(error)` is called when the server has refused a description.
   */
  constructor({ negotiation, configure, signal, changed, refused }) {
    Object.assign(this, { negotiation, configure, signal, changed, refused })
    this.#connect(false)
  }

  /** Sends a track, or nothing if it is null. Only the first track of a name needs a negotiation. */
  async setTrack(name, track, stream) {
    this.#tracks.set(name, { track, stream })
    const sender = this.#senders[name]
    if (!sender) return this.#add(name)
    if (track) {
      // After `removeTrack` the media section is used again, so that the description does not grow.
      sender.setStreams(stream)
      this.pc.getTransceivers().find((transceiver) => transceiver.sender === sender).direction = 'sendrecv'
    }
    await sender.replaceTrack(track)
  }

  /** Removes a track by a negotiation, so that it also ends on the other side. */
  removeTrack(name) {
    this.#tracks.delete(name)
    if (this.#senders[name]) this.pc.removeTrack(this.#senders[name])
  }

  /** Handles the signals of the other side in order, without those for a connection that was replaced. */
  receive({ kind, payload }) {
    if (payload.reset) {
      this.#numberOfOther = payload.reset
      if (payload.reset > this.#number) this.#replace(payload.reset)
    }
    if (payload.reset || this.#numberOfOther !== this.#number) return
    const { pc } = this
    this.#received = this.#received.then(() => this.#handle(pc, kind, payload)).catch(console.error)
  }

  close() {
    this.#outbox = []
    clearTimeout(this.#timer)
    this.pc.close()
  }

  #connect(fresh) {
    const pc = (this.pc = new RTCPeerConnection())
    pc.onnegotiationneeded = () => this.#offer(pc).catch(console.error)
    pc.onicecandidate = ({ candidate }) => candidate && this.#send('ICE_CANDIDATES', [candidate])
    pc.ontrack = ({ streams: [stream] }) => {
      this.streams.add(stream)
      stream.onremovetrack = () => {
        if (stream.getTracks().length === 0) this.streams.delete(stream)
        this.changed()
      }
      this.changed()
    }
    pc.onconnectionstatechange = () => {
      this.#watch().catch(console.error)
      this.changed()
    }
    this.#senders = {}
    this.#makingOffer = this.#ignoringOffer = this.#hasFailed = false
    this.#received = this.#configure(fresh).catch(console.error)
    for (const name of this.#tracks.keys()) this.#add(name)
    this.#timer = setTimeout(() => this.#replace(this.#number + 1), CONNECT_SECONDS * 1_000)
  }

  /** Replaces the connection by a new one with the same tracks. The other side does the same. */
  #replace(number) {
    this.close()
    this.streams.clear()
    this.#number = number
    this.#send('RENEGOTIATE', { reset: number })
    this.#connect(true)
    this.changed()
  }

  /** The servers are used from the next description on. */
  #configure(fresh) {
    const { pc } = this
    this.#configured = this.configure(fresh).then((configuration) => {
      if (pc.signalingState !== 'closed') pc.setConfiguration(configuration)
    })
    return this.#configured
  }

  #add(name) {
    const { track, stream } = this.#tracks.get(name)
    if (track) this.#senders[name] = this.pc.addTrack(track, stream)
  }

  /** A connection that fails restarts ICE, and is replaced if it fails again. */
  async #watch() {
    const { connectionState } = this.pc
    if (connectionState !== 'connecting') clearTimeout(this.#timer)
    if (connectionState === 'connected') this.#hasFailed = false
    if (connectionState !== 'failed') return
    if (this.#hasFailed) return this.#replace(this.#number + 1)
    this.#hasFailed = true
    // Only one side restarts ICE, so that no offers collide. Both need credentials that are valid.
    if (this.negotiation.offers) return this.#restart()
    await this.#configure(true)
    this.#send('RENEGOTIATE', {})
  }

  async #restart() {
    const { pc } = this
    await this.#configure(true)
    pc.restartIce()
  }

  async #handle(pc, kind, payload) {
    await this.#configured
    if (pc !== this.pc) return
    if (kind === 'RENEGOTIATE') return this.#restart()
    if (kind === 'ICE_CANDIDATES') {
      // Candidates of an ignored offer cannot be added.
      const failed = (error) => this.#ignoringOffer || console.warn(error)
      return Promise.all(payload.map((candidate) => pc.addIceCandidate(candidate).catch(failed)))
    }
    const collides = kind === 'OFFER' && (this.#makingOffer || pc.signalingState !== 'stable')
    this.#ignoringOffer = collides && !this.negotiation.polite
    if (this.#ignoringOffer) return
    await pc.setRemoteDescription(payload) // on a collision, this rolls back the own offer
    if (kind === 'OFFER') await this.#describe(pc)
  }

  async #offer(pc) {
    await this.#configured
    // If the other side has made an offer in the meantime, the browser asks again after the answer.
    if (pc !== this.pc || pc.signalingState !== 'stable') return
    // The participant who joined later makes the first offer; the answer adds the media of the other side.
    if (!this.negotiation.offers && !pc.remoteDescription) return
    this.#makingOffer = true
    await this.#describe(pc).finally(() => pc === this.pc && (this.#makingOffer = false))
  }

  /** Creates and sends an offer or an answer, depending on the signaling state. */
  async #describe(pc) {
    await pc.setLocalDescription()
    if (pc !== this.pc) return
    const { type, sdp } = pc.localDescription
    this.#send(type.toUpperCase(), { type, sdp })
  }

  /** Sends signals in order, each after the previous one is delivered. Candidates that wait are sent together. */
  async #send(kind, payload) {
    const last = this.#outbox.at(-1)
    if (kind === 'ICE_CANDIDATES' && last?.kind === kind && last.payload.length < 50) last.payload.push(...payload)
    else this.#outbox.push({ kind, payload })
    if (this.#sending) return
    this.#sending = true
    for (let next; (next = this.#outbox.shift()); ) {
      const { pc } = this
      await this.signal(next.kind, next.payload).catch((error) => this.#handleRefusal(pc, next.kind, error))
    }
    this.#sending = false
  }

  /**
   * Without its description a connection cannot change any more, so it is replaced. A new one is small; if even that is
   * refused, it is tried again when its time to connect is over.
   */
  #handleRefusal(pc, kind, error) {
    console.warn(error)
    const isObsolete = pc !== this.pc || error.code === 'CONFLICT' // the other side has left, or joined again
    if (isObsolete || !['OFFER', 'ANSWER'].includes(kind)) return
    this.refused(error)
    if (['connected', 'disconnected', 'failed'].includes(pc.connectionState)) this.#replace(this.#number + 1)
  }
}
