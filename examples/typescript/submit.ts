// Make a video from a picture: `make clients`, then in this folder GATEWAY_KEY=rcg_... node build/submit.js PICTURE_URL
import createClient from "openapi-fetch";
import type { components, paths } from "./gateway.js";

type Job = components["schemas"]["JobRead"];

const picture = process.argv[2];
const key = process.env.GATEWAY_KEY;
if (!picture || !key) throw new Error("usage: GATEWAY_KEY=rcg_... node build/submit.js PICTURE_URL");

const gateway = createClient<paths>({
  baseUrl: process.env.GATEWAY_URL ?? "http://localhost:8000",
  headers: { Authorization: `Bearer ${key}` },
});

const submitted = await gateway.POST("/v1/jobs", {
  headers: { "Idempotency-Key": crypto.randomUUID() },
  body: {
    model: "bytedance/seedance-1-0/pro/image-to-video",
    input: { prompt: "the camera drifts forward", first_frame_image_url: picture, duration: 2 },
  },
});
if (submitted.error) {
  const { detail, errors } = submitted.error;
  throw new Error(errors?.map((each) => each.detail).join(" ") ?? detail); // each names its field
}
let job: Job = submitted.data;
while (job.finished_at === null) {
  await new Promise((done) => setTimeout(done, 500));
  const { data, error } = await gateway.GET("/v1/jobs/{job_id}", {
    params: { path: { job_id: job.id } },
  });
  if (error) throw new Error(error.detail);
  job = data;
}
console.log(JSON.stringify({ id: job.id, status: job.status, video: job.output?.video ?? null }));
