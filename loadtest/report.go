package loadtest

import "github.com/cellway/cellway/infra/run"

// APIVersion marks the reports of the demo, the chaos and the figures, as it does
// everything that our commands print.
const APIVersion = run.APIVersion
