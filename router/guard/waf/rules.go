package waf

import (
	"fmt"
	"strings"
)

// base is how rules are run. The engine is always on: whether a request that is
// denied goes on is decided by who asked.
const base = `
SecRuleEngine On
SecRxPreFilter On
SecAuditEngine Off
SecResponseBodyAccess Off
SecRequestBodyAccess On
SecRequestBodyLimit 65536
SecRequestBodyInMemoryLimit 65536
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit 64
SecArgumentsLimit 1000
`

// ruleSet reads bodies by their type, and includes the rules for requests. What
// looks at answers is left out: answers are the cell's.
const ruleSet = `
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/(?:[a-z0-9.-]+\+)?json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'The body cannot be read',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400,msg:'The parts of the body cannot be read',severity:2"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200004,phase:1,t:none,log,deny,status:400,msg:'Too many arguments',severity:2"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200005,phase:2,t:none,log,deny,status:400,msg:'Too many arguments',severity:2"
Include @crs-setup.conf.example
Include @owasp_crs/REQUEST-9*.conf
`

// setup is what the rule set lets be chosen, and the exclusions. Methods and media
// types are those of an API.
func (c Config) setup() string {
	paranoia, threshold := max(1, c.Paranoia), c.Threshold
	if threshold == 0 {
		threshold = 5
	}
	var b strings.Builder
	fmt.Fprintf(&b, "SecAction \"id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level=%d,setvar:tx.detection_paranoia_level=%d\"\n", paranoia, paranoia)
	fmt.Fprintf(&b, "SecAction \"id:900110,phase:1,pass,t:none,nolog,setvar:tx.inbound_anomaly_score_threshold=%d\"\n", threshold)
	b.WriteString(`SecAction "id:900200,phase:1,pass,t:none,nolog,setvar:'tx.allowed_methods=GET HEAD POST PUT PATCH DELETE OPTIONS'"
SecAction "id:900220,phase:1,pass,t:none,nolog,setvar:'tx.allowed_request_content_type=|application/json| |application/merge-patch+json| |application/json-patch+json| |application/cloudevents+json| |application/x-www-form-urlencoded| |multipart/form-data| |application/octet-stream| |text/plain| |text/csv| |application/xml| |text/xml|'"
`)
	for i, x := range c.Exclude {
		x.write(&b, firstExclusion+i)
	}
	return b.String()
}

// firstExclusion is the id of the first exclusion's rule: out of everybody's range.
const firstExclusion = 899_000_000

// write adds the rule that takes x's rules out.
func (x Exclusion) write(b *strings.Builder, id int) {
	var out []string
	for _, r := range x.Rules {
		out = append(out, fmt.Sprintf("ctl:ruleRemoveById=%d", r))
	}
	for _, t := range x.Tags {
		out = append(out, "ctl:ruleRemoveByTag="+t)
	}
	tenants := make([]string, len(x.Tenants))
	for i, t := range x.Tenants {
		tenants[i] = fmt.Sprint(t)
	}
	oneOf := func(list []string) string {
		if len(list) == 0 {
			return "@unconditionalMatch"
		}
		return "@rx ^(?:" + strings.Join(list, "|") + ")$" // digits, and names of a-z, 0-9, _ and -
	}
	fmt.Fprintf(b, "SecRule TX:cellway_tenant %q \"id:%d,phase:1,pass,t:none,nolog,chain\"\n", oneOf(tenants), id)
	fmt.Fprintf(b, "  SecRule TX:cellway_route %q \"t:none,%s\"\n", oneOf(x.Routes), strings.Join(out, ","))
}

// sum is the group of rules that only add up.
const sum = "sum"

// groups are the rule set's, by the first three digits of a rule's id.
var groups = map[int]string{
	911: "method", 913: "scanner", 920: "protocol", 921: "protocol_attack", 922: "multipart", 930: "lfi", 931: "rfi", 932: "rce",
	933: "php", 934: "generic", 941: "xss", 942: "sqli", 943: "session_fixation", 944: "java", 949: sum, 980: sum, 200: "unreadable",
}

// GroupOf is the group of a rule: the rule set's, or own.
func GroupOf(id int) string {
	if g, ok := groups[id/1000]; ok {
		return g
	}
	return "own"
}
