// Package deploy checks the files under /deploy: that they parse, and that what they ask for is what the daemons tell.
package deploy

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

const root = "../.."

// told are the names of all metric families of a running nsqd that has a topic with a channel and has refused something.
func told(t *testing.T) map[string]bool {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "nsqd")
	out, err := exec.Command("go", "build", "-o", binary, root+"/cmd/nsqd").CombinedOutput()
	require.NoError(t, err, string(out))
	ctx := context.Background()
	d, err := daemon.Start(ctx, daemon.Options{Path: binary, DataPath: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Kill()) }()
	require.NoError(t, d.API().CreateTopic(ctx, "topic", "channel"))
	refuse(t, d.TCPAddr)

	response, err := http.Get("http://" + d.HTTPAddr + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	require.NoError(t, err)
	names := map[string]bool{"up": true} // the scraper's own
	for name := range families {
		names[name] = true
	}
	return names
}

// asked collects the metrics that an expression names.
func asked(t *testing.T, expression string) []string {
	t.Helper()
	parsed, err := metricsql.Parse(expression)
	require.NoError(t, err, expression)
	var names []string
	metricsql.VisitAll(parsed, func(e metricsql.Expr) {
		m, ok := e.(*metricsql.MetricExpr)
		if !ok {
			return
		}
		for _, or := range m.LabelFilterss {
			for _, f := range or {
				if f.Label == "__name__" {
					names = append(names, strings.TrimSuffix(f.Value, "_bucket"))
				}
			}
		}
	})
	require.NotEmpty(t, names, expression)
	return names
}

func TestExpressionsNameWhatIsTold(t *testing.T) {
	names := told(t)
	var expressions []string

	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	read(t, "deploy/prometheus/alerts.yml", func(b []byte) error { return yaml.Unmarshal(b, &rules) })
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			require.NotEmpty(t, r.Alert)
			require.Contains(t, []string{"critical", "warning", "info"}, r.Labels["severity"], r.Alert)
			require.NotEmpty(t, r.Annotations["summary"], r.Alert)
			expressions = append(expressions, r.Expr)
		}
	}
	require.NotEmpty(t, expressions)

	var dashboard struct {
		Title  string
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	read(t, "deploy/grafana/nsqloop.json", func(b []byte) error { return json.Unmarshal(b, &dashboard) })
	require.Equal(t, "nsqloop", dashboard.Title)
	for _, p := range dashboard.Panels {
		require.True(t, p.Type == "row" || len(p.Targets) > 0, p.Title)
		for _, target := range p.Targets {
			expressions = append(expressions, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"))
		}
	}
	for _, e := range expressions {
		for _, name := range asked(t, e) {
			require.True(t, names[name], "%s: no daemon tells %s", e, name)
		}
	}
}

func read(t *testing.T, name string, decode func([]byte) error) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	require.NoError(t, decode(b), name)
}

// The compose file's commands are flags that the daemons know, and every service runs one of the binaries in the image.
func TestComposeCommands(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Command []string
			Ports   []string
			Volumes []string
		}
		Volumes map[string]any
	}
	read(t, "deploy/compose.yaml", func(b []byte) error { return yaml.Unmarshal(b, &file) })
	require.Len(t, file.Services, 4)
	bin := t.TempDir()
	out, err := exec.Command("go", "build", "-o", bin+"/", root+"/cmd/nsqd", root+"/cmd/nsqlookupd").CombinedOutput()
	require.NoError(t, err, string(out))
	for name, s := range file.Services {
		require.NotEmpty(t, s.Command, name)
		// -version after the real flags: they are all read, nothing is started.
		out, err := exec.Command(filepath.Join(bin, s.Command[0]), append(s.Command[1:], "-version")...).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		require.Contains(t, string(out), strings.TrimPrefix(s.Command[0], "/")+" v")
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			require.Contains(t, file.Volumes, volume, name)
		}
		for _, p := range s.Ports {
			require.True(t, strings.HasPrefix(p, "127.0.0.1:"), "%s: %s is open to the world", name, p)
		}
	}
}

func TestPrometheusConfigNamesTheRules(t *testing.T) {
	var config struct {
		RuleFiles []string `yaml:"rule_files"`
	}
	read(t, "deploy/prometheus/prometheus.yml", func(b []byte) error { return yaml.Unmarshal(b, &config) })
	require.Equal(t, []string{"alerts.yml"}, config.RuleFiles)
}
