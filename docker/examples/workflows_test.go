package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// workflow is what the tests need of a workflow.
type workflow struct {
	Name        string            `json:"name"`
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		Needs       any               `json:"needs"`
		RunsOn      string            `json:"runs-on"`
		Permissions map[string]string `json:"permissions"`
		Steps       []struct {
			Uses string            `json:"uses"`
			If   string            `json:"if"`
			With map[string]any    `json:"with"`
			Run  string            `json:"run"`
			Env  map[string]string `json:"env"`
		} `json:"steps"`
	} `json:"jobs"`
}

var (
	makeCall    = regexp.MustCompile(`(?m)\bmake ((?:[a-z-]+)(?: [A-Z]\S+)*)`)
	file        = regexp.MustCompile(`\b(?:docker|infra)/[\w./*-]+`)
	variable    = regexp.MustCompile(`\$\{\{ *vars\.(\w+) *\}\}`)
	inRun       = regexp.MustCompile(`\$\{\{`)
	registry    = regexp.MustCompile(`(?i)\b(?:ghcr|docker|quay|gcr|ecr)\.(?:io|aws)\b|amazonaws\.com`)
	goRun       = regexp.MustCompile(`go run (\./\S+) (\w+)`)
	releaseCall = regexp.MustCompile(`^\.ci/release (plan|build|push|sign|assemble|publish)$`)
	makeRules   = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// Whatever a workflow calls is there: targets, files, variables that its head explains.
func TestWorkflowsCallWhatExists(t *testing.T) {
	top := "../.."
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	require.NoError(t, err)
	targets := map[string]bool{}
	for _, m := range makeRules.FindAllStringSubmatch(string(makefile), -1) {
		targets[m[1]] = true
	}
	paths, err := filepath.Glob(filepath.Join(top, ".github/workflows/*.yml"))
	require.NoError(t, err)
	require.Contains(t, paths, filepath.Join(top, ".github/workflows/release.yml"))
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		text := string(raw)
		require.NotRegexp(t, registry, text, "registries are named by variables of the repository")
		head, _, _ := strings.Cut(text, "\nname:")
		for _, v := range variable.FindAllStringSubmatch(text, -1) {
			require.Contains(t, head, v[1], "the head of %s explains the variable", path)
		}
		w := readWorkflow(t, path)
		require.Equal(t, map[string]string{"contents": "read"}, w.Permissions)
		calls := 0
		for name, job := range w.Jobs {
			require.NotEmpty(t, job.RunsOn, name)
			for _, need := range list(job.Needs) {
				require.Contains(t, w.Jobs, need)
			}
			for _, step := range job.Steps {
				require.NotEqual(t, step.Uses == "", step.Run == "", "a step uses an action or runs a script")
				require.NotRegexp(t, inRun, step.Run, "values reach scripts by the environment")
				if step.Uses != "" {
					require.Regexp(t, `@[0-9a-f]{40}$`, step.Uses, "actions are named by commit")
				}
				if m := releaseCall.FindStringSubmatch(step.Run); m != nil {
					calls++
				}
				for _, m := range makeCall.FindAllStringSubmatch(step.Run, -1) {
					require.True(t, targets[strings.Fields(m[1])[0]], "make %s", m[1])
					calls++
				}
				for _, f := range file.FindAllString(step.Run, -1) {
					require.FileExists(t, filepath.Join(top, f))
				}
				for _, m := range goRun.FindAllStringSubmatch(step.Run, -1) {
					require.FileExists(t, filepath.Join(top, "docker", m[1], "main.go"))
					require.Equal(t, "push", m[2])
				}
			}
		}
		require.Positive(t, calls, path)
	}
}

// The workflows build with the Go of go.mod's toolchain line, which is newer than its go line; so do
// all modules.
func TestOneGoForAll(t *testing.T) {
	toolchain := regexp.MustCompile(`(?m)^toolchain go(\S+)$`)
	raw, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	found := toolchain.FindStringSubmatch(string(raw))
	require.NotNil(t, found, "go.mod names no toolchain")
	for _, module := range []string{"internal", "cluster"} {
		raw, err := os.ReadFile("../../" + module + "/go.mod")
		require.NoError(t, err)
		require.Contains(t, string(raw), "\ntoolchain go"+found[1]+"\n", module)
	}
	paths, err := filepath.Glob("../../.github/workflows/*.yml")
	require.NoError(t, err)
	for _, path := range paths {
		for name, job := range readWorkflow(t, path).Jobs {
			setups := 0
			for _, step := range job.Steps {
				if strings.HasPrefix(step.Uses, "actions/setup-go@") {
					require.Equal(t, map[string]any{"go-version": found[1]}, step.With, "%s, job %s", path, name)
					setups++
				}
			}
			if name == "plan" {
				require.Zero(t, setups, "the plan needs no Go")
				continue
			}
			require.Equal(t, 1, setups, "%s, job %s", path, name)
		}
	}
}

// list is what YAML has as one value or as several.
func list(v any) []any {
	if all, ok := v.([]any); ok || v == nil {
		return all
	}
	return []any{v}
}

func readWorkflow(t *testing.T, path string) workflow {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var w workflow
	require.NoError(t, yaml.Unmarshal(raw, &w), path)
	return w
}

// runs are the targets that the jobs of a workflow make.
func (w workflow) runs() map[string]bool {
	targets := map[string]bool{}
	for _, job := range w.Jobs {
		for _, step := range job.Steps {
			for _, m := range makeCall.FindAllStringSubmatch(step.Run, -1) {
				targets[strings.Fields(m[1])[0]] = true
			}
		}
	}
	return targets
}

// A change passes the same here, in .ci/run, and before a release; CONTRIBUTING.md names it.
func TestWorkflowsRunWhatCIRuns(t *testing.T) {
	raw, err := os.ReadFile("../../.ci/run")
	require.NoError(t, err)
	stages := regexp.MustCompile(`(?m)^exec \.ci/stages (.*)$`).FindStringSubmatch(string(raw))
	require.NotNil(t, stages)
	contributing, err := os.ReadFile("../../CONTRIBUTING.md")
	require.NoError(t, err)
	ci, release := readWorkflow(t, "../../.github/workflows/ci.yml").runs(), readWorkflow(t, "../../.github/workflows/release.yml").runs()
	want := map[string]bool{}
	for stage := range strings.FieldsSeq(stages[1]) {
		want[stage] = true
		require.True(t, release[stage], "a release makes no %s", stage)
		require.Regexp(t, "`make "+stage+"`", string(contributing))
	}
	require.Equal(t, want, ci)

	nightly, err := os.ReadFile("../../.github/workflows/nightly.yml")
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"test-full": true}, readWorkflow(t, "../../.github/workflows/nightly.yml").runs())
	require.Contains(t, string(nightly), "fetch-depth: 0")
}

// What a release has to do, in this order; TestReleaseScript runs the steps.
func TestReleaseSteps(t *testing.T) {
	raw, err := os.ReadFile("../../.github/workflows/release.yml")
	require.NoError(t, err)
	at := 0
	for _, part := range []string{"workflow_dispatch", ".ci/release plan", "needs: plan", "make test", "make test-templates", "needs: [plan, test]", "id-token: write", ".ci/release build",
		"cosign-installer", "docker login", ".ci/release push", ".ci/release sign", ".ci/release assemble", ".ci/release publish"} {
		i := strings.Index(string(raw)[at:], part)
		require.GreaterOrEqual(t, i, 0, "%s, after what comes before it", part)
		at += i
	}
	// Whatever reaches a registry or an account is left out of a dry run.
	for _, step := range readWorkflow(t, "../../.github/workflows/release.yml").Jobs["images"].Steps {
		if strings.Contains(step.Run, "login") || strings.HasPrefix(step.Uses, "aws-actions/") {
			require.Contains(t, step.If, "env.DRY != 'true'")
		}
	}
}
