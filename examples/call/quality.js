// The quality of a call, measured by the browser's statistics.

const sum = (entries, counter) => entries.reduce((total, entry) => total + (entry[counter] ?? 0), 0)

/** Returns the counters, and the quality since the counters `before`, which is false if no media was received. */
export async function measure(peers, before) {
  const reports = await Promise.all(peers.map(({ pc }) => pc.getStats()))
  const entries = reports.flatMap((report) => [...report.values()])
  const inbound = entries.filter(({ type }) => type === 'inbound-rtp')
  const pairs = entries.filter(({ currentRoundTripTime }) => currentRoundTripTime !== undefined)
  const counters = { at: Date.now() }
  for (const name of ['packetsLost', 'packetsReceived', 'bytesReceived']) counters[name] = sum(inbound, name)

  // The counters of a participant who left are missing, so a difference can be negative.
  const growth = (name) => Math.max(0, counters[name] - (before[name] ?? 0))
  const [lost, received] = [growth('packetsLost'), growth('packetsReceived')]
  const quality = pairs.length > 0 && received > 0 && {
    roundTripMs: (sum(pairs, 'currentRoundTripTime') / pairs.length) * 1_000,
    packetLossPercent: (lost / (lost + received)) * 100,
    bitrateKbps: (growth('bytesReceived') * 8) / growth('at'),
  }
  return { counters, quality }
}
