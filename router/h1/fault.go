package h1

// A Fault is why bytes are not HTTP/1.1 as we take it. It is an error; the zero
// Fault is none and must not be used as one.
type Fault uint8

// The faults. Their names in metrics and documents are those of Reason.
const (
	None Fault = iota
	BareLF
	BadMethod
	MethodRefused
	BadTarget
	BadVersion
	VersionRefused
	BadRequestLine
	TargetTooLong
	BadField
	BadName
	TwinName
	BadValue
	Folded
	LineTooLong
	HeadTooLarge
	TooManyFields
	NoHost
	TwoHosts
	BadHost
	HostMismatch
	BadLength
	TwoLengths
	BadCoding
	LengthAndCoding
	CodingOnOldVersion
	BadConnection
	BadExpect
	BadUpgrade
	BadStatusLine
	BadStatus
	BadChunk
	ChunkTooLong
	TrailerTooLarge
	BadTrailer
	CutShort
	UnaskedSwitch
	TooManyInterim
	faults
)

// Methods are those that are served, for the field Allow; others that are tokens are relayed as they come.
const Methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// faultInfo is the reason, the status that a client gets for it, and the detail.
var faultInfo = [faults]struct {
	reason string
	status int
	detail string
}{
	None:               {"none", 200, "no fault"},
	BareLF:             {"bare_lf", 400, "a line does not end with CR LF"},
	BadMethod:          {"bad_method", 400, "the method is not a token"},
	MethodRefused:      {"method_refused", 405, "the method is not served"},
	BadTarget:          {"bad_target", 400, "the request target is not valid"},
	BadVersion:         {"bad_version", 400, "the version is not valid"},
	VersionRefused:     {"version_refused", 505, "the version is not HTTP/1.1 or HTTP/1.0"},
	BadRequestLine:     {"bad_request_line", 400, "the request line is not valid"},
	TargetTooLong:      {"target_too_long", 414, "the request line is too long"},
	BadField:           {"bad_field", 400, "a field line has no colon after its name"},
	BadName:            {"bad_name", 400, "a field's name is not a token"},
	TwinName:           {"twin_name", 400, "a field's name could be taken for another's"},
	BadValue:           {"bad_value", 400, "a field's value holds a control character"},
	Folded:             {"folded", 400, "a field line begins with white space"},
	LineTooLong:        {"line_too_long", 431, "a field line is too long"},
	HeadTooLarge:       {"head_too_large", 431, "the head is too large"},
	TooManyFields:      {"too_many_fields", 431, "there are too many fields"},
	NoHost:             {"no_host", 400, "there is no Host"},
	TwoHosts:           {"two_hosts", 400, "there is more than one Host"},
	BadHost:            {"bad_host", 400, "the Host is not a host name with an optional port"},
	HostMismatch:       {"host_mismatch", 400, "the Host and the request target differ"},
	BadLength:          {"bad_length", 400, "the Content-Length is not a number of at most 16 digits"},
	TwoLengths:         {"two_lengths", 400, "there is more than one Content-Length"},
	BadCoding:          {"bad_coding", 400, "the Transfer-Encoding is not chunked, once"},
	LengthAndCoding:    {"length_and_coding", 400, "there are both Content-Length and Transfer-Encoding"},
	CodingOnOldVersion: {"coding_on_old_version", 400, "HTTP/1.0 has no Transfer-Encoding"},
	BadConnection:      {"bad_connection", 400, "the Connection names what it may not"},
	BadExpect:          {"bad_expect", 417, "the expectation is not 100-continue"},
	BadUpgrade:         {"bad_upgrade", 400, "the Upgrade is not valid"},
	BadStatusLine:      {"bad_status_line", 502, "the status line is not valid"},
	BadStatus:          {"bad_status", 502, "the status is not valid"},
	BadChunk:           {"bad_chunk", 400, "a chunk is not valid"},
	ChunkTooLong:       {"chunk_too_long", 400, "a chunk's size or extension is too long"},
	TrailerTooLarge:    {"trailer_too_large", 431, "the trailer section is too large"},
	BadTrailer:         {"bad_trailer", 400, "a trailer field is not valid"},
	CutShort:           {"cut_short", 400, "the message ends before its body does"},
	UnaskedSwitch:      {"unasked_switch", 502, "the protocol was switched to what nobody asked for"},
	TooManyInterim:     {"too_many_interim", 502, "there are too many 1xx answers"},
}

// Reason is the fault's name for metrics.
func (f Fault) Reason() string { return faultInfo[f].reason }

// Status is the status that a client gets for a fault of its request.
func (f Fault) Status() int { return faultInfo[f].status }

// Error is one sentence that a client may read.
func (f Fault) Error() string { return faultInfo[f].detail }
