import { GraphiQL } from 'graphiql'
import { createElement } from 'react'
import { createRoot } from 'react-dom/client'
import { fetcher } from './fetcher.js'
import { storage } from './storage.js'
import { tabs } from './tabs.js'

const { token } = JSON.parse(document.getElementById('parlor').textContent)
const defaultHeaders = token ? JSON.stringify({ Authorization: `Bearer ${token}` }, null, 2) : undefined

createRoot(document.getElementById('graphiql')).render(
  createElement(
    GraphiQL,
    { fetcher, storage, defaultTabs: tabs, defaultHeaders },
    createElement(GraphiQL.Logo, null, 'Parlor'),
  ),
)
