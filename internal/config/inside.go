package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Debugging says what a process shows of itself to whoever repairs it.
type Debugging struct {
	On   bool   // serve the pages for it
	Port int    // of the loopback interface; 0: any free one
	Dir  string // folder of flight records; blank: none are made
}

// Tracing says where the traces of proposals go. Blank Endpoint: nothing is traced.
type Tracing struct {
	Endpoint   Secret // base URL of an OTLP receiver over HTTP
	Headers    Secret // NAME=value, separated by commas
	Service    string
	Sampler    string  // of TraceSamplers
	SamplerArg float64 // share of the traces, for those that take one
}

// Value is one setting as it is in force.
type Value struct {
	Name   string `json:"name"`
	Value  string `json:"value"` // "[secret]" where it must not be shown
	Origin string `json:"origin"`
}

// TraceSamplers are the names of the samplers that OpenTelemetry defines.
func TraceSamplers() []string {
	return []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}
}

func debugSettings() []Setting {
	rows := []Setting{
		{
			Env: "DEBUG_PORT", Flag: "debug-port", Arg: "PORT", Roles: serving,
			DefaultText: "off",
			Usage:       "serve profiles, settings in force and the inner state below /debug on this port of 127.0.0.1, and nowhere else; 0: any",
			set: func(d *draft, text string) error {
				d.Debug.On = true
				return integer(func(d *draft) *int { return &d.Debug.Port }, 0, 65535)(d, text)
			},
		},
		{
			Env: "DEBUG_DIR", Flag: "debug-dir", Arg: "DIR", Roles: engine,
			DefaultText: "off",
			Usage:       "folder for flight records: what the process did in the seconds before a heartbeat was missed; the newest 8, of at most 64 MB together, are kept",
			set:         directory(func(d *draft) *string { return &d.Debug.Dir }),
		},
		{
			Env: "OTEL_EXPORTER_OTLP_ENDPOINT", Flag: "otlp-endpoint", Arg: "URL", Secret: true, Roles: engine,
			DefaultText: "off",
			Usage:       "OpenTelemetry receiver (OTLP over HTTP) that gets a trace of every full publish, from the price to the confirmed write; for example http://127.0.0.1:4318",
			set:         setOTLPEndpoint,
		},
		{
			Env: "OTEL_EXPORTER_OTLP_HEADERS", Secret: true, Roles: engine,
			Usage: "headers that the receiver wants, as NAME=value, separated by commas",
			set:   setOTLPHeaders,
		},
		{
			Env: "OTEL_SERVICE_NAME", Flag: "otel-service-name", Arg: "NAME", Default: "quantum-harvest-proposal", Roles: engine,
			Usage: "name of the service in the traces",
			set:   token(func(d *draft) *string { return &d.Tracing.Service }),
		},
		{
			Env: "OTEL_TRACES_SAMPLER", Flag: "otel-traces-sampler", Arg: "SAMPLER", Default: "parentbased_always_on", Roles: engine,
			Usage: "which traces are kept: " + strings.Join(TraceSamplers(), ", "),
			set:   choice(func(d *draft) *string { return &d.Tracing.Sampler }, TraceSamplers()...),
		},
		{
			Env: "OTEL_TRACES_SAMPLER_ARG", Flag: "otel-traces-sampler-arg", Arg: "SHARE", Default: "1", Roles: engine,
			Usage: "share of the traces that traceidratio keeps, 0 to 1",
			set:   number(func(d *draft) *float64 { return &d.Tracing.SamplerArg }, 0, 1),
		},
	}
	return inGroup(GroupDebug, rows)
}

func setOTLPEndpoint(d *draft, text string) error {
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("not the base URL of a receiver; write for example http://127.0.0.1:4318 (credentials belong into OTEL_EXPORTER_OTLP_HEADERS)")
	}
	d.Tracing.Endpoint = NewSecret(u.String())
	return nil
}

func setOTLPHeaders(d *draft, text string) error {
	if _, err := ParseHeaders(text); err != nil {
		return err
	}
	d.Tracing.Headers = NewSecret(text)
	return nil
}

// ParseHeaders reads NAME=value pairs separated by commas, values percent-encoded where they hold one, as OpenTelemetry writes
// them. Its error does not repeat the text.
func ParseHeaders(text string) (map[string]string, error) {
	list := map[string]string{}
	for i, part := range commaList(text) {
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t:") {
			return nil, fmt.Errorf("header %d is not NAME=value", i+1)
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("the value of header %d is not percent-encoded as it should be", i+1)
		}
		list[name] = value
	}
	return list, nil
}

// inForce lists the settings of the role as they are.
func (l *loader) inForce(table []Setting) []Value {
	var list []Value
	for _, s := range table {
		if !slices.Contains(s.Roles, l.role) {
			continue
		}
		v := l.values[key(s)]
		if s.Secret && v.text != "" {
			v.text = redacted
		}
		name := s.Env
		if name == "" {
			name = "--" + s.Flag
		}
		list = append(list, Value{Name: name, Value: v.text, Origin: v.origin})
	}
	return list
}
