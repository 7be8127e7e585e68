// How good a call is, by the browser's own counters.

const sum = (entries, counter) => entries.reduce((total, entry) => total + (entry[counter] ?? 0), 0)

/** Since the counters were `before`; false where nothing arrived. */
export async function measure(peers, before) {
  const reports = await Promise.all(peers.map(({ pc }) => pc.getStats()))
  const entries = reports.flatMap((report) => [...report.values()])
  const inbound = entries.filter(({ type }) => type === 'inbound-rtp')
  const pairs = entries.filter(({ currentRoundTripTime }) => currentRoundTripTime !== undefined)
  const counters = { at: Date.now() }
  for (const name of ['packetsLost', 'packetsReceived', 'bytesReceived']) counters[name] = sum(inbound, name)

  // The counters of one who left are gone, so a difference may be less than nothing.
  const grown = (name) => Math.max(0, counters[name] - (before[name] ?? 0))
  const [lost, received] = [grown('packetsLost'), grown('packetsReceived')]
  const quality = pairs.length > 0 && received > 0 && {
    roundTripMs: (sum(pairs, 'currentRoundTripTime') / pairs.length) * 1_000,
    packetLossPercent: (lost / (lost + received)) * 100,
    bitrateKbps: (grown('bytesReceived') * 8) / grown('at'),
  }
  return { counters, quality }
}
