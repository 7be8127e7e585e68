// The connection to one other participant, by the "perfect negotiation" of the W3C: either side may change its media at
// any time, and if two offers collide, the polite side withdraws its own.
// https://www.w3.org/TR/webrtc/#perfect-negotiation-example

export class Peer {
  /** The received streams: first microphone and camera, then a shared screen. */
  streams = new Set()
  #senders = {}
  #makingOffer = false
  #ignoringOffer = false
  #outbox = []
  #sending = false

  /** `signal(kind, payload)` sends a signal to the other side; `configure()` returns a current RTCConfiguration. */
  constructor({ negotiation, configuration, configure, signal, changed }) {
    Object.assign(this, { negotiation, configure, signal })
    const pc = (this.pc = new RTCPeerConnection(configuration))
    pc.onnegotiationneeded = () => this.#offer().catch(console.error)
    pc.onicecandidate = ({ candidate }) => candidate && this.#send('ICE_CANDIDATES', [candidate])
    pc.ontrack = ({ streams: [stream] }) => {
      this.streams.add(stream)
      stream.onremovetrack = () => {
        if (stream.getTracks().length === 0) this.streams.delete(stream)
        changed()
      }
      changed()
    }
    pc.onconnectionstatechange = () => {
      // Only one side restarts ICE, so that no offers collide.
      if (pc.connectionState === 'failed') negotiation.offers ? this.#restart() : this.#send('RENEGOTIATE', {})
      changed()
    }
  }

  /** Sends a track, or nothing if it is null. Only the first call with a name needs a negotiation. */
  async setTrack(name, track, stream) {
    if (this.#senders[name]) await this.#senders[name].replaceTrack(track)
    else if (track) this.#senders[name] = this.pc.addTrack(track, stream)
  }

  /** Removes a track by a negotiation, so that it also ends on the other side. */
  removeTrack(name) {
    if (this.#senders[name]) this.pc.removeTrack(this.#senders[name])
    delete this.#senders[name]
  }

  async receive({ kind, payload }) {
    const { pc } = this
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
    if (kind === 'OFFER') await this.#describe()
  }

  close() {
    this.#outbox = []
    this.pc.close()
  }

  async #offer() {
    // The participant who joined later makes the first offer; the answer adds the media of the other side.
    if (!this.negotiation.offers && !this.pc.remoteDescription) return
    this.#makingOffer = true
    await this.#describe().finally(() => (this.#makingOffer = false))
  }

  /** Creates and sends an offer or an answer, depending on the signaling state. */
  async #describe() {
    await this.pc.setLocalDescription()
    const { type, sdp } = this.pc.localDescription
    this.#send(type.toUpperCase(), { type, sdp })
  }

  async #restart() {
    this.pc.setConfiguration(await this.configure())
    this.pc.restartIce()
  }

  /** Sends signals in order, each after the previous one is delivered. Candidates that wait are sent together. */
  async #send(kind, payload) {
    const last = this.#outbox.at(-1)
    if (kind === 'ICE_CANDIDATES' && last?.kind === kind && last.payload.length < 50) last.payload.push(...payload)
    else this.#outbox.push({ kind, payload })
    if (this.#sending) return
    this.#sending = true
    for (let next; (next = this.#outbox.shift()); ) await this.signal(next.kind, next.payload).catch(console.warn)
    this.#sending = false
  }
}
