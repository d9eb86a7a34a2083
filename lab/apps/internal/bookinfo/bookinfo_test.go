package bookinfo

import (
	"net/http"
	"testing"
)

func TestServiceURL(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"http://ratings:9080/ratings":         {},
		"http://ratings.shop:9080/ratings":    {"SERVICES_DOMAIN": "shop"},
		"http://other:8080/ratings":           {"RATINGS_HOSTNAME": "other", "RATINGS_SERVICE_PORT": "8080", "DETAILS_HOSTNAME": "x"},
		"http://other.shop.test:9080/ratings": {"RATINGS_HOSTNAME": "other", "SERVICES_DOMAIN": "shop.test"},
	} {
		if got := ServiceURL(func(name string) string { return env[name] }, "ratings"); got != want {
			t.Errorf("%v: %s, want %s", env, got, want)
		}
	}
}

func TestPassOn(t *testing.T) {
	from := http.Header{}
	for _, name := range []string{"X-Request-Id", "traceparent", "sw8", "Cookie", "jwt", "End-User", "Accept", "X-Forwarded-For"} {
		from.Set(name, "of "+name)
	}
	for _, test := range []struct {
		own  []string
		want int
	}{{nil, 5}, {[]string{"end-user", "x-b3-traceid"}, 6}} {
		to := http.Header{}
		PassOn(from, to, test.own...)
		if len(to) != test.want || to.Get("Sw8") != "of sw8" || to.Get("Accept") != "" || to.Get("X-Forwarded-For") != "" {
			t.Errorf("%v: passed on %v", test.own, to)
		}
		if (to.Get("end-user") != "") != (test.own != nil) {
			t.Errorf("%v: end-user %q", test.own, to.Get("end-user"))
		}
	}
}
