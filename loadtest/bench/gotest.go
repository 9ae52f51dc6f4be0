package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// results are what Go benchmarks printed: benchmark (without "Benchmark" and the
// number of processors), then unit.
type results map[string]map[string]float64

// goBench runs the benchmarks of a package that match pattern, once; benchtime is
// as in go test.
func (l *lab) goBench(ctx context.Context, pkg, pattern, benchtime string, env ...string) (results, error) {
	binary, err := l.testBinary(ctx, pkg)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+benchtime, "-test.benchmem", "-test.timeout=10m")
	cmd.Dir = filepath.Join(l.o.Source, filepath.FromSlash(pkg))
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run benchmarks of %s: %w: %s", pkg, err, out)
	}
	got, err := parseBench(string(out))
	if err == nil && len(got) == 0 {
		err = fmt.Errorf("no benchmark matches %s: %s", pattern, out)
	}
	if err != nil {
		return nil, fmt.Errorf("read benchmarks of %s: %w", pkg, err)
	}
	return got, nil
}

// testBinary builds the tests of a package, once.
func (l *lab) testBinary(ctx context.Context, pkg string) (string, error) {
	path, err := l.scratch()
	if err != nil {
		return "", err
	}
	path = filepath.Join(path, strings.ReplaceAll(pkg, "/", "-")+".test")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", path, "./"+pkg)
	cmd.Dir = l.o.Source
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build benchmarks of %s: %w: %s", pkg, err, out)
	}
	return path, nil
}

// parseBench reads the lines "BenchmarkName-8  100  12.3 ns/op  4 B/op ...".
func parseBench(out string) (results, error) {
	got := results{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		values := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("line %q: %w", strings.TrimSpace(line), err)
			}
			values[f[i+1]] = v
		}
		got[name] = values
	}
	return got, nil
}

// take is one number of a benchmark.
func (r results) take(name, unit string) (float64, error) {
	v, ok := r[name][unit]
	if !ok {
		return 0, fmt.Errorf("benchmark %s has no %s; there is %v", name, unit, r)
	}
	return v, nil
}

// A benchValue is a number of a benchmark that a figure shows, in a unit of its own.
type benchValue struct {
	value, benchmark, unit string
	scale                  float64
}

// addAll adds numbers of benchmarks.
func (m *measure) addAll(got results, all []benchValue) error {
	for _, x := range all {
		v, err := got.take(x.benchmark, x.unit)
		if err != nil {
			return err
		}
		m.Add(x.value, v*x.scale)
	}
	return nil
}
