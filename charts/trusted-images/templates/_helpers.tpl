{{- define "trusted-images.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trusted-images.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "trusted-images.labels" -}}
{{ include "trusted-images.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "trusted-images.serviceAccount" -}}
{{- default (include "trusted-images.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "trusted-images.secret" -}}
{{- default (printf "%s-tls" (include "trusted-images.fullname" .)) .Values.certificates.secretName -}}
{{- end -}}

{{- define "trusted-images.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "trusted-images.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{- define "trusted-images.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The webhook configurations as they are wanted; the leader adds the authorities and applies them once a replica answers. */ -}}
{{- define "trusted-images.configuration" -}}
{{- if and (eq .Values.webhook.failurePolicy "Ignore") (not .Values.webhook.allowIgnore) -}}
{{- fail "webhook.failurePolicy: Ignore admits every image while no replica answers; set webhook.allowIgnore to true if that is wanted" -}}
{{- end -}}
{{- $name := include "trusted-images.fullname" . -}}
{{- $client := dict "service" (dict "name" $name "namespace" .Release.Namespace "port" 443) -}}
{{- with .Values.webhook.caBundle -}}
{{- if ne $.Values.certificates.source "secret" -}}
{{- fail (printf "webhook.caBundle: the authorities of a certificate of your own; with certificates.source %s API servers would refuse what is served, and with it every Pod. Leave it empty, or set certificates.source to secret" $.Values.certificates.source) -}}
{{- end -}}
{{- $_ := set $client "caBundle" (b64enc .) -}}
{{- end -}}
{{- /* Whatever is written: without these two no cluster starts, and without its own namespace the webhook does not. */ -}}
{{- $exempt := concat (list "kube-system" "kube-node-lease") (default (list) .Values.webhook.exemptNamespaces) (list .Release.Namespace) | uniq -}}
{{- $own := dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" $exempt -}}
{{- $expressions := prepend (default (list) .Values.webhook.namespaceSelector.matchExpressions) $own -}}
{{- $selector := dict "matchExpressions" $expressions -}}
{{- with .Values.webhook.namespaceSelector.matchLabels }}{{- $_ := set $selector "matchLabels" . -}}{{- end -}}
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {{ $name }}
  labels: {{- include "trusted-images.labels" . | nindent 4 }}
webhooks:
  # Writes verified digests into Pods, under policies with `tags: pin`, and into nothing that somebody else keeps.
  - name: digests.trusted-images.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: {{ .Values.webhook.failurePolicy }}
    matchPolicy: Equivalent
    # Images that another webhook adds afterwards are pinned, too.
    reinvocationPolicy: IfNeeded
    timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
    clientConfig: {{- merge (dict "service" (merge (dict "path" "/mutate") $client.service)) $client | toYaml | nindent 6 }}
    namespaceSelector: {{- toYaml $selector | nindent 6 }}
    rules:
      - operations: [CREATE, UPDATE]
        apiGroups: [""]
        apiVersions: [v1]
        resources: [pods, pods/ephemeralcontainers]
        scope: Namespaced
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ $name }}
  labels: {{- include "trusted-images.labels" . | nindent 4 }}
webhooks:
  - name: images.trusted-images.dev
    admissionReviewVersions: [v1]
    # Uses of exceptions are counted; of a dry run they are not.
    sideEffects: NoneOnDryRun
    failurePolicy: {{ .Values.webhook.failurePolicy }}
    matchPolicy: Equivalent
    timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
    clientConfig: {{- merge (dict "service" (merge (dict "path" "/validate") $client.service)) $client | toYaml | nindent 6 }}
    namespaceSelector: {{- toYaml $selector | nindent 6 }}
    rules:
      - operations: [CREATE, UPDATE]
        apiGroups: [""]
        apiVersions: [v1]
        resources: [pods, pods/ephemeralcontainers]
        scope: Namespaced
      {{- if .Values.webhook.controllers }}
      - operations: [CREATE, UPDATE]
        apiGroups: [""]
        apiVersions: [v1]
        resources: [podtemplates, replicationcontrollers]
        scope: Namespaced
      - operations: [CREATE, UPDATE]
        apiGroups: [apps]
        apiVersions: [v1]
        resources: [daemonsets, deployments, replicasets, statefulsets]
        scope: Namespaced
      - operations: [CREATE, UPDATE]
        apiGroups: [batch]
        apiVersions: [v1]
        resources: [cronjobs, jobs]
        scope: Namespaced
      {{- end }}
  - name: policies.trusted-images.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    # Of a policy that could not be checked when it was written the status tells, and it denies what it covers.
    failurePolicy: {{ .Values.webhook.failurePolicy }}
    matchPolicy: Equivalent
    timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
    clientConfig: {{- merge (dict "service" (merge (dict "path" "/validate-policies") $client.service)) $client | toYaml | nindent 6 }}
    rules:
      - operations: [CREATE, UPDATE]
        apiGroups: [trusted-images.dev]
        apiVersions: ["*"]
        resources: [trustpolicies, clustertrustpolicies]
        scope: "*"
  - name: exceptions.trusted-images.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    # Whatever holds for images: who asks and who approves is known here alone, so what was not checked is not written.
    failurePolicy: Fail
    matchPolicy: Equivalent
    timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
    clientConfig: {{- merge (dict "service" (merge (dict "path" "/validate-policies") $client.service)) $client | toYaml | nindent 6 }}
    rules:
      - operations: [CREATE, UPDATE]
        apiGroups: [trusted-images.dev]
        apiVersions: ["*"]
        resources: [trustexceptions]
        scope: Namespaced
{{- end -}}
