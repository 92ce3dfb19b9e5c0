// Starts dynalite, installed in the folder that is given, on a free port of this machine, and says which. It
// ends with its standard input: a test that is killed leaves no server behind.
const path = require('node:path')

const dynalite = require(path.join(process.argv[2], 'node_modules', 'dynalite'))
const server = dynalite({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 })
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.resume().on('end', () => process.exit(0))
