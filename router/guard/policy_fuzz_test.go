package guard

import (
	"bytes"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v4"
)

// FuzzPolicy: no file ends the process; a policy that is taken says the same, and is taken
// again, when it is written out; what is wrong with another is said in one line.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{
		"", "{}", "- a", "colour: red", "trusted: [10.0.0.0/8, '::ffff:192.0.2.1']",
		"clients: {requests: 600, window: 1m, burst: 100, concurrent: 64, connections: 128}\ntiers:\n  default: {requests: 6000, window: 1m}\n  gold: {concurrent: 9}\ntenants: {17: gold}",
		"routes:\n  - {name: exports, prefix: /v1/exports, methods: [POST], requests: 10, window: 1m, max_body: 65536, auth: open, waf: detect, inspect_body: 16384}\nsignup: {waf: block}",
		"contract: {file: openapi.yaml, mode: detect}\nwaf: {mode: block, per_second: 25, paranoia: 2, threshold: 5, rules: [own.conf], exclude: [{rules: [932370], tags: [attack-sqli], tenants: [17], routes: [signup]}]}",
		"issuers:\n  - {issuer: 'https://idp.example', audience: cellway, tenant_claim: org, algorithms: [RS256], refresh: 10m}\n  - {issuer: 'http://[::1]:80', jwks: 'http://localhost/k', audience: a, tenant: 1}",
		"a: &a {requests: 1}\nclients: *a", "clients: {<<: {requests: 1}, window: 1s}", "tiers: {? [a] : {}}", "--- {}\n---\ncolour: red",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := Parse(in)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than a line: %v", err)
			}
			return
		}
		written, err := yaml.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("%v, of what was taken:\n%s", err, written)
		}
		if same, err := yaml.Marshal(&again); err != nil || !bytes.Equal(same, written) {
			t.Fatalf("%v: written again\n%s\nwas\n%s", err, same, written)
		}
	})
}
