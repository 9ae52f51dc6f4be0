package keep

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// Each script is one atomic step; all of its keys are one tenant's.
var (
	//go:embed write.lua
	writeText string
	//go:embed changes.lua
	changesText string
	//go:embed begin.lua
	beginText string
	//go:embed apply.lua
	applyText string
	//go:embed clear.lua
	clearText string

	writeScript   = redis.NewScript(writeText)
	changesScript = redis.NewScript(changesText)
	beginScript   = redis.NewScript(beginText)
	applyScript   = redis.NewScript(applyText)
	clearScript   = redis.NewScript(clearText)
)
