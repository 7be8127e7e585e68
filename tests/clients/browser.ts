import { chromium } from 'playwright-core'

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const args = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** A Chromium that speaks to nobody by itself. It ends with this process, which a test runner out of patience ends. */
export const launch = (...more: string[]) =>
  chromium.launch({ executablePath, args: [...args, ...more], handleSIGTERM: false })
