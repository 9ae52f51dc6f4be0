package router

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
)

const (
	signupTimeout = 10 * time.Second
	signupBody    = 64 << 10
)

// newSignup forwards sign-ups to the directory. It has connections of its own:
// a directory that hangs takes nothing from tenants' requests.
func newSignup(directory *url.URL, log *slog.Logger) http.Handler {
	if directory == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			telemetry.Problem(w, r, source, problem.New(problem.NotFound, "there is no sign-up here"))
		})
	}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = directory.Scheme, directory.Host
			pr.Out.Host = ""
			setForwarded(pr)
			otel.GetTextMapPropagator().Inject(pr.Out.Context(), propagation.HeaderCarrier(pr.Out.Header))
		},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout,
			ResponseHeaderTimeout: signupTimeout, IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: 16, MaxConnsPerHost: 64,
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del(telemetry.RequestIDHeader)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			telemetry.Problem(w, r, source, signupError(err))
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), signupTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, signupBody)
		reverse.ServeHTTP(w, r)
	})
}

func signupError(err error) error {
	if e := clientError(err); problem.KindOf(e) == problem.TooLarge {
		return e
	}
	e := problem.Wrap(problem.Unavailable, err, "sign-up is not available now")
	e.RetryAfter = 5 * time.Second
	return e
}
