// The workers are imported first, because Monaco starts them when it is loaded.
import 'graphiql/setup-workers/vite'
import 'graphiql/style.css'
import './style.css'
import './render.js'
