// The workers are imported first, because Monaco starts them when it is loaded.
import 'graphiql/setup-workers/vite'
import 'graphiql/style.css'
import './style.css'
import { GraphiQL } from 'graphiql'
import { createRoot } from 'react-dom/client'
import { fetcher } from './fetcher.js'
import { storage } from './storage.js'
import { tabs } from './tabs.js'

const { token } = JSON.parse(document.getElementById('parlor').textContent)
const headers = token ? JSON.stringify({ Authorization: `Bearer ${token}` }, null, 2) : undefined

createRoot(document.getElementById('graphiql')).render(
  <GraphiQL fetcher={fetcher} storage={storage} defaultTabs={tabs} defaultHeaders={headers}>
    <GraphiQL.Logo>Parlor</GraphiQL.Logo>
  </GraphiQL>,
)
